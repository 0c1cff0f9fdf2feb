"""Published architectures: count their parameters, and build small random models like them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trlm_utils.models import add_lora, placed, sync_tokens, trainable
from trlm_utils.tokenization import (
    FAMILIES,
    TEXT_END,
    THINK_TOKENS,
    build_tokenizer,
    prepare_tokenizer,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


ARCHITECTURES = Path(__file__).with_name("architecture_files")


def architecture(name: str) -> Any:
    """The configuration of a published model, from `architecture_files/`.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
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
        config: a transformers configuration, see `architecture`.
        rank: rank of LoRA adapters (`add_lora`); above 0, only their parameters are counted.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # peft asks for an attribute that transformers is about to rename
    quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)
    with torch.device("meta"), quiet:
        model = AutoModelForCausalLM.from_config(config)
        return trainable(add_lora(model, rank) if rank else model)


# Settings that make a model of any published architecture small; its class stays the same.
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
    """A small stand-in for a real model: its architecture with two layers of random weights.

    The tokenizer is built from ``texts`` and has the real model's chat template. Think tags
    are one token each where the real tokenizer has them (DeepSeek-R1), else plain text.

    Returns:
        Model (fp32, on the device) and tokenizer.

    Raises:
        ValueError: see `architecture`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = architecture(name)
    family = next((f for f in FAMILIES if f in name.lower()), "chatml")
    think_tokens = THINK_TOKENS if family == "deepseek" else ()
    tokenizer = build_tokenizer(texts, vocab_size, think_tokens=think_tokens)
    tokenizer.bos_token = TEXT_END
    tokenizer.add_special_tokens({"additional_special_tokens": list(FAMILIES[family])})
    tokenizer = prepare_tokenizer(tokenizer)
    for key, value in TWO_LAYERS.items():
        if hasattr(config, key):
            setattr(config, key, value)
    content = config.to_dict() | {"vocab_size": len(tokenizer), "bos_token_id": None}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(type(config)(**content))
    sync_tokens(model, tokenizer)
    return placed(model.float()), tokenizer
