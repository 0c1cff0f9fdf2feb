"""A copy of a model for sampling: whole on this rank, and in one number format.

Where FSDP or ZeRO-3 divides the weights among ranks, each forward pass gathers them, and all
ranks must take part. Completions end at different steps on different ranks, so a rank that
samples from such a model would wait for passes that the others never make. A copy is gathered
once, and then each rank samples by itself. It needs memory for all weights on every rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trlm_utils import models

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class InferenceCopy:
    """A copy of a model in a number format of its own, for sampling and saving only.

    Every call of `of` updates its weights; where they are divided among ranks, all ranks must
    call it. The copy is built from the model's configuration,
    because a deep copy of a model inside a TRL trainer would still call the original model.

    Args:
        dtype: number format of the copy's weights, one of `models.DTYPES`.
    """

    def __init__(self, dtype: str):
        self.dtype = dtype
        self.model: PreTrainedModel | None = None

    def of(self, policy: Any) -> PreTrainedModel:
        """The copy with the policy's current weights; LoRA adapters are merged into them."""
        import torch

        base = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        if self.model is None:
            self.model = self._made(base)
        with torch.no_grad(), gathered(base):
            for name, weight in base.named_parameters():
                if ".lora_" not in name:
                    own = self.model.get_parameter(name.replace(".base_layer.", "."))
                    own.copy_(whole_weight(weight))
            for name, layer in base.named_modules():
                if hasattr(layer, "get_delta_weight"):  # a layer with LoRA adapters
                    change = sum(map(layer.get_delta_weight, layer.active_adapters))
                    own = self.model.get_parameter(f"{name}.weight")
                    own.copy_(whole_weight(layer.base_layer.weight + change))
        return self.model

    def _made(self, base: Any) -> PreTrainedModel:
        """A model of the same configuration; building it leaves the random state unchanged."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng():
            copy = AutoModelForCausalLM.from_config(
                base.config,
                dtype=getattr(torch, self.dtype),
                attn_implementation=base.config._attn_implementation,
            )
        return models.placed(copy).eval()


def divided(model: Any) -> bool:
    """Whether the weights are divided among ranks: by FSDP 2 (DTensor) or by ZeRO-3."""
    return any(hasattr(w, "full_tensor") or hasattr(w, "ds_id") for w in model.parameters())


def whole(model: Any) -> Any:
    """The model itself, or where its weights are divided a whole copy; all ranks must call it."""
    if not divided(model):
        return model
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return InferenceCopy(dtype).of(model)


def whole_weight(weight: torch.Tensor) -> torch.Tensor:
    """A weight with all its values, gathered if FSDP 2 divided it."""
    return weight.full_tensor() if hasattr(weight, "full_tensor") else weight


@contextlib.contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Context in which weights that DeepSpeed's ZeRO-3 divided are whole."""
    parts = [weight for weight in model.parameters() if hasattr(weight, "ds_id")]
    if not parts:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parts):
        yield
