"""Tokenizers and models: build tiny ones from nothing, save and load any.

The tiny tokenizer is a byte-level BPE in which the most frequent words, and every
number 0-99, are one token each; all other text falls back to bytes, so nothing is
ever unknown. Numbers are whole tokens only behind a space: ``is 12``, not ``is12``.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER = "adapter_config.json"  # what a folder of adapters holds instead of config.json
PAD, START, END, TEXT_END = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL_TOKENS = (PAD, START, END, TEXT_END)
THINK_TOKENS = ("<think>", "</think>")
TEMPLATES = Path(__file__).with_name("templates")
ARCHITECTURES = Path(__file__).with_name("architectures")
# Family -> tokens that its chat template (`templates/`) needs, the last of which ends a turn.
FAMILIES = {
    "deepseek": ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "chatml": (START, END),
}


class ModelFolderError(ValueError):
    """A model folder is missing or only half written."""


def build_tokenizer(
    texts: Iterable[str], vocab_size: int = 512, number_tokens: int = 100
) -> PreTrainedTokenizerBase:
    """Make a byte-level BPE whose whole-word tokens are the most frequent words.

    Args:
        texts: the text to count words in.
        vocab_size: number of entries, including 256 bytes, 4 special tokens and 2
            think tags.
        number_tokens: numbers 0..number_tokens-1 get a token each (with the space
            before them).

    Returns:
        A tokenizer with the course's chat template, ``<|im_end|>`` as end token and
        a pad token of its own (padding with the end token teaches a model not to
        stop). ``<think>`` and ``</think>`` are ordinary tokens: special ones would be
        dropped when TRL and lm-eval decode.

    Raises:
        ValueError: when vocab_size leaves no room for words.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as bpe
    from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    entries = [*SPECIAL_TOKENS, *THINK_TOKENS]
    entries += sorted(pre_tokenizers.ByteLevel.alphabet())
    entries += [f"Ġ{number}" for number in range(number_tokens)]
    room = vocab_size - len(dict.fromkeys(entries))
    if room <= 0:
        raise ValueError(f"vocab_size {vocab_size} leaves no room for words")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in byte_level.pre_tokenize_str(text))
    known = set(entries)
    words = [w for w in sorted(counts, key=lambda w: (-counts[w], w)) if w not in known]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(entries + words[:room]))}

    # No merges: a word is either one token, or its bytes.
    tokenizer = Tokenizer(bpe.BPE(vocab, [], ignore_merges=True))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in THINK_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=template("chatml"),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
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
    return LlamaForCausalLM(config)


def template(family: str) -> str:
    """The chat template of a family of models."""
    return (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8")


def family_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Which of `FAMILIES` a tokenizer belongs to, by the tokens it has.

    Raises:
        ValueError: when it lacks the tokens of all of them.
    """
    vocab = tokenizer.get_vocab()
    for family, tokens in FAMILIES.items():
        if all(token in vocab for token in tokens):
            return family
    known = "; ".join(f"{family}: {' '.join(tokens)}" for family, tokens in FAMILIES.items())
    raise ValueError(f"the tokenizer lacks what a chat template needs ({known})")


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Fit a downloaded chat tokenizer to the course.

    Sets the chat template of its family, adds the think tags as ordinary tokens where the
    tokenizer lacks them, and gives padding a token other than the end token (SmolLM2
    pads with its end token, so masking the padding masks the lesson of stopping).

    Raises:
        ValueError: see `family_of`.
    """
    family, vocab = family_of(tokenizer), tokenizer.get_vocab()
    end = FAMILIES[family][-1]
    tokenizer.chat_template = template(family)
    tokenizer.add_tokens([token for token in THINK_TOKENS if token not in vocab])
    tokenizer.eos_token = end
    if tokenizer.pad_token in (None, end):
        tokenizer.pad_token = TEXT_END if TEXT_END in vocab else PAD
        if TEXT_END not in vocab:
            tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.padding_side = "left"
    return tokenizer


def architecture(name: str) -> Any:
    """The configuration of a published model, from `architectures/`.

    Raises:
        ValueError: when there is none of that name; lists those there are.
    """
    from transformers import AutoConfig

    path = ARCHITECTURES / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in ARCHITECTURES.glob("*.json")))
        raise ValueError(f"no architecture {name!r}; there are: {known}")
    content = json.loads(path.read_text(encoding="utf-8"))
    return AutoConfig.for_model(content.pop("model_type"), **content)


def parameters_of(config: Any, rank: int = 0) -> int:
    """Number of parameters of an architecture, counted on the meta device (no memory).

    Args:
        rank: of adapters (`add_lora`); with one, only their parameters are counted.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # peft asks for an attribute that transformers is about to rename
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)
    with torch.device("meta"), quiet:
        model = AutoModelForCausalLM.from_config(config)
        return trainable(add_lora(model, rank) if rank else model)


# What makes a model of any published architecture small; its class and kinds stay.
TWO_LAYERS = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "layer_types": None,
}


def build_stand_in(
    name: str, texts: Iterable[str], vocab_size: int = 512, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Two layers with random weights, of the architecture and chat template of a real model.

    Raises:
        ValueError: see `architecture`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = architecture(name)
    family = next((f for f in FAMILIES if f in name.lower()), "chatml")
    tokenizer = build_tokenizer(texts, vocab_size)
    tokenizer.bos_token = TEXT_END
    tokenizer.add_special_tokens({"additional_special_tokens": list(FAMILIES[family])})
    tokenizer = prepare_tokenizer(tokenizer)
    for key, value in TWO_LAYERS.items():
        if hasattr(config, key):
            setattr(config, key, value)
    content = config.to_dict() | {"vocab_size": len(tokenizer), "bos_token_id": None}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(type(config)(**content))
    _sync_tokens(model, tokenizer)
    return model.float(), tokenizer


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
    _sync_tokens(model, tokenizer)
    return model, tokenizer


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
    _sync_tokens(model, tokenizer)
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


def load_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model (fp32) and tokenizer from a folder that the course wrote.

    A checkpoint kept of a run with adapters holds those alone; they are added into the
    model that they were trained on, which lies in the same run.

    Raises:
        ModelFolderError: when the folder is incomplete.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_model_folder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / ADAPTER).exists():
        from peft import PeftModel

        base, _ = load_model(_trained_on(folder))
        return merge_lora(PeftModel.from_pretrained(base, folder)), tokenizer
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, tokenizer


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


def _sync_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make model and generation config agree with the tokenizer on end and padding."""
    generates = getattr(model, "generation_config", None)  # classifiers have none
    for config in (model.config, *([generates] if generates else [])):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
