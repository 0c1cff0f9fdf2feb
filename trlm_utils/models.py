"""Models: build a tiny one from random weights; load, adapt and save any model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from trlm_utils import machine, tokenization
from trlm_utils.files import from_root, shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEADS = 4  # attention heads of a model made from random weights
# Architectures of such a model: transformers' model_type -> the name of its classes
MODEL_TYPES = {"exaone4": "Exaone4", "qwen3": "Qwen3", "llama": "Llama"}
DTYPES = ("float32", "bfloat16", "float16")  # number formats of a model's weights
ADAPTER = "adapter_config.json"  # in a folder of LoRA adapters, in place of config.json


class ModelFolderError(ValueError):
    """A model folder is missing, incomplete or damaged."""


def build_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = HEADS,
    max_positions: int = 512,
    model_type: str = "exaone4",
    window: int = 24,
    seed: int = 0,
) -> PreTrainedModel:
    """Make a model with random weights, embeddings tied, in one of three architectures.

    - ``llama``: SmolLM2's; every layer sees all tokens and their (rotary) positions.
    - ``qwen3``: the same, and queries and keys are normalised before they are compared
      (Henry et al. 2020, "Query-Key Normalization for Transformers").
    - ``exaone4``: the same, and two kinds of layers (LG AI Research 2025, "EXAONE 4.0"). All
      but the last see the last ``window`` tokens, with positions. The last sees all tokens,
      without positions (NoPE), so it can find a token by content alone, at any distance.

    Args:
        model_type: a key of `MODEL_TYPES`.
        window: tokens that the sliding layers of ``exaone4`` see, the present one included.

    Raises:
        ValueError: for an unknown model_type; when hidden_size is not a multiple of 2 x heads.
    """
    import torch
    import transformers

    if model_type not in MODEL_TYPES:
        raise ValueError(f"unknown model_type {model_type!r}; known: {', '.join(MODEL_TYPES)}")
    if hidden_size % (2 * heads):
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of 2 x {heads}")
    torch.manual_seed(seed)
    name = MODEL_TYPES[model_type]
    own = {}
    if model_type == "exaone4":
        kinds = ["sliding_attention"] * (layers - 1) + ["full_attention"]
        own = {"layer_types": kinds, "sliding_window": window}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden_size // heads,
        max_position_embeddings=max_positions,
        initializer_range=0.1,  # with the usual 0.02 so narrow a model learns far more slowly
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **own,
    )
    return placed(getattr(transformers, f"{name}ForCausalLM")(config))


def load_base(
    name: str, think_tokens: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a pretrained model in fp32 and adapt its tokenizer to the course.

    Args:
        name: a model on the Hub, a folder, or the path of a ``.gguf`` file; a relative path is
            looked up in the project's folder.
        think_tokens: make each think tag one token (`add_think_tokens`); otherwise a
            tokenizer without such tokens encodes the tags as plain text.

    Returns:
        Model (on the device) and tokenizer.

    Raises:
        OSError: when the model is found neither locally nor on the Hub.
        ValueError: see `tokenization.prepare_tokenizer`.
        ModuleNotFoundError: for a ``.gguf`` file without the package gguf.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = from_root(name)
    if name.endswith(".gguf"):
        model, tokenizer = _load_gguf(local)
    else:
        name = str(local) if local.is_dir() else name
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    tokenizer = tokenization.prepare_tokenizer(tokenizer)
    if think_tokens:
        add_think_tokens(model, tokenizer)
    elif len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    sync_tokens(model, tokenizer)
    return placed(model), tokenizer


def placed(model: PreTrainedModel) -> PreTrainedModel:
    """Move a model to the device that the trainers use (`machine.torch_device`).

    Every model that is loaded or built passes through here, so none stays on the CPU by
    mistake.
    """
    return model.to(machine.torch_device())


def _load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a GGUF file, its quantized weights converted to fp32."""
    from importlib.util import find_spec

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if not path.is_file():
        raise FileNotFoundError(f"BASE_MODEL: no file {shown(path)}; give the path of a .gguf file")
    if find_spec("gguf") is None:
        raise ModuleNotFoundError(f"{path.name} needs the package gguf: pip install gguf")
    folder, file = str(path.parent), {"gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(folder, **file)
    # weights that stay quantized could be neither trained nor saved
    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder, **file, dtype=torch.float32, quantization_config=plain
    )
    return model, tokenizer


def add_think_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> None:
    """Make each think tag one token, with its own embedding row.

    transformers initialises new embedding rows at the mean of all rows. This disturbs the
    model least (Hewitt 2021, *Initializing New Word Embeddings*), but whatever then raises
    the tag's logit raises those of all rare tokens too. Here a new row is the mean of the
    rows of the tokens that the tag was split into before (as in Sachidananda et al. 2021,
    *Adaptive Tokenization*), plus normal noise with the standard deviation that the
    embedding matrix has in each dimension.

    The ids of the new rows are stored in the model's config, where
    `optimizers.faster_rows` reads them. A tokenizer that already has the tags is not changed.

    Args:
        seed: seed of the noise.
    """
    import torch

    as_text = tokenizer(list(tokenization.THINK_TOKENS), add_special_tokens=False)["input_ids"]
    pieces = dict(zip(tokenization.THINK_TOKENS, as_text, strict=True))
    old = len(tokenizer)
    new = tokenization.add_think_tokens(tokenizer)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    generator = torch.Generator().manual_seed(seed)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    with torch.no_grad():
        for table in {id(layer.weight): layer.weight for layer in layers}.values():
            spread = table[:old].std(0)
            for row, tag in zip(new, tokenizer.convert_ids_to_tokens(new), strict=True):
                noise = torch.randn(spread.shape, generator=generator).to(spread)
                table[row] = table[pieces[tag]].mean(0) + spread * noise
    model.config.think_token_rows = new


def add_lora(
    model: PreTrainedModel, rank: int, seed: int = 0, alpha: float = 32, dropout: float = 0.0
) -> PreTrainedModel:
    """Add LoRA adapters to every linear layer; only the adapters are trained.

    A weight W becomes W + (alpha / rank) B A, with B zero at the start (Hu et al. 2021,
    *LoRA: Low-Rank Adaptation of Large Language Models*). With a fixed alpha the best
    learning rate is nearly the same for all ranks.

    Args:
        rank: rank of B A, at least 1.
        seed: seed of A's random start values.
        dropout: dropout probability on the adapters' input.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def trainable(model: PreTrainedModel) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """The model without adapters: they are merged into the weights."""
    return model.merge_and_unload()


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save model and tokenizer; ``folder`` is replaced only once all files are written."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    sync_tokens(model, tokenizer)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def check_model_folder(folder: Path) -> None:
    """Check that a model folder is complete, before it is loaded.

    Raises:
        ModelFolderError: names the file that is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    settings = ADAPTER if (folder / ADAPTER).exists() else "config.json"
    for name in (settings, "tokenizer.json", "tokenizer_config.json"):
        try:
            json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelFolderError(_half_written(folder, f"{name} is missing")) from None
        except ValueError:
            raise ModelFolderError(_half_written(folder, f"{name} is damaged")) from None
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelFolderError(_half_written(folder, "it has no .safetensors file"))
    for path in weights:
        try:
            with safe_open(path, "pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError):
            raise ModelFolderError(_half_written(folder, f"{path.name} is cut off")) from None


def load_model(
    folder: Path, attention: str = "", dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer from a folder that the course wrote.

    A checkpoint of a training with LoRA holds the adapters only. They are merged into the
    model that they were trained on, which is in the same run folder.

    Args:
        attention: implementation of attention ("eager", "sdpa", "flash_attention_2", ...);
            if empty, transformers chooses.
        dtype: of the weights, one of `DTYPES`; training needs float32.

    Raises:
        ModelFolderError: when the folder is incomplete.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_model_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / ADAPTER).exists():
        from peft import PeftModel

        base, _ = load_model(_trained_on(folder), attention, dtype)
        return merge_lora(PeftModel.from_pretrained(base, folder)), tokenizer
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention or None
    )
    return placed(model), tokenizer


def _trained_on(folder: Path) -> Path:
    """Folder of the base model of the adapters in ``<run>/<stage>/step_<n>/model``."""
    named = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    # only stage and folder name are taken from the path: the run may have been moved
    return folder.parents[2].joinpath(*Path(named).parts[-2:])


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder that the course wrote.

    Raises:
        ModelFolderError: when the folder is incomplete.
    """
    from transformers import AutoTokenizer

    check_model_folder(folder)
    return AutoTokenizer.from_pretrained(folder)


def _half_written(folder: Path, what: str) -> str:
    return f"model folder {folder.parent.name}/{folder.name}: {what}; run that stage again"


def sync_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Copy the tokenizer's end and padding token ids into the model's configurations."""
    generates = getattr(model, "generation_config", None)  # classifiers have none
    for config in (model.config, *([generates] if generates else [])):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
