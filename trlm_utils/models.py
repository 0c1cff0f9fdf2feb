"""Models: build a tiny one from nothing, load, adapt and save any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trlm_utils import machine
from trlm_utils.tokenization import prepare_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEADS = 4  # attention heads of a model made from random weights
ADAPTER = "adapter_config.json"  # what a folder of adapters holds instead of config.json


class ModelFolderError(ValueError):
    """A model folder is missing or only half written."""


def build_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = HEADS,
    max_positions: int = 512,
    seed: int = 0,
) -> PreTrainedModel:
    """Make a Llama with random weights (SmolLM2's architecture, tied embeddings).

    Raises:
        ValueError: when hidden_size is not a multiple of 2 x heads.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if hidden_size % (2 * heads):
        raise ValueError(f"hidden_size {hidden_size} is not a multiple of 2 x {heads}")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_positions,
        initializer_range=0.1,  # at this width the usual 0.02 learns far more slowly
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return placed(LlamaForCausalLM(config))


def load_base(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model from the Hub or a folder, in fp32, fitted to the course.

    Raises:
        OSError: when it can be found neither locally nor on the Hub.
        ValueError: see `prepare_tokenizer`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = prepare_tokenizer(AutoTokenizer.from_pretrained(name))
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    sync_tokens(model, tokenizer)
    return placed(model), tokenizer


def placed(model: PreTrainedModel, dtype: Any = None) -> PreTrainedModel:
    """The model on the device that trainers take (`machine.torch_device`).

    Every model that is loaded or made goes through here, so none is forgotten on the CPU.

    Args:
        dtype: another number format, for a model that is only asked.
    """
    return model.to(device=machine.torch_device(), dtype=dtype)


def add_lora(
    model: PreTrainedModel, rank: int, seed: int = 0, alpha: float = 32, dropout: float = 0.0
) -> PreTrainedModel:
    """The model with low-rank adapters on every linear layer; only they are trained.

    A weight W becomes W + (alpha / rank) B A, with B zero at the start (Hu et al. 2021).
    A fixed alpha makes the best learning rate nearly the same for all ranks.
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
    """Number of parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """A model with adapters as a plain one: the adapters added into the weights."""
    return model.merge_and_unload()


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model and tokenizer beside ``folder`` and move them there when complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    sync_tokens(model, tokenizer)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def check_model_folder(folder: Path) -> None:
    """Refuse a model folder that is incomplete, before a loader fails half-way in.

    Raises:
        ModelFolderError: names what is missing or damaged.
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
    folder: Path, attention: str = ""
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model (fp32) and tokenizer from a folder that the course wrote.

    A checkpoint kept of a run with adapters holds those alone; they are added into the
    model that they were trained on, which lies in the same run.

    Args:
        attention: how attention is computed ("eager", "sdpa", "flash_attention_2", ...);
            empty is transformers' choice.

    Raises:
        ModelFolderError: when the folder is incomplete.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_model_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / ADAPTER).exists():
        from peft import PeftModel

        base, _ = load_model(_trained_on(folder), attention)
        return merge_lora(PeftModel.from_pretrained(base, folder)), tokenizer
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention or None
    )
    return placed(model), tokenizer


def _trained_on(folder: Path) -> Path:
    """The model that adapters in ``<run>/<stage>/step_<n>/model`` belong to."""
    named = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    # by its stage, not by its path: a run folder may have been moved
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
    """Make model and generation config agree with the tokenizer on end and padding."""
    generates = getattr(model, "generation_config", None)  # classifiers have none
    for config in (model.config, *([generates] if generates else [])):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
