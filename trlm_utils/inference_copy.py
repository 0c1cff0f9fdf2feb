"""A copy of a model for sampling: whole on this rank, and in one number format.

Where FSDP divides the weights among ranks, each forward pass gathers them, and all ranks must
take part. Completions end at different steps on different ranks, so a rank that samples from
such a model would wait for passes that the others never make. A copy is gathered once, and then
each rank samples by itself. It needs memory for all weights on every rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trlm_utils import models, ranks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class InferenceCopy:
    """A copy of a model in a number format of its own, for sampling and saving only.

    Every call of `of` updates its weights; where they are divided among ranks, all ranks must
    call it. The copy is built from the model's configuration, because a deep copy of a model
    inside a TRL trainer would still call the original model.

    Args:
        dtype: number format of the copy's weights, one of `models.DTYPES`.
        device: where it is; by default where models are placed.
    """

    def __init__(self, dtype: str, device: str = ""):
        self.dtype, self.device = dtype, device
        self.model: PreTrainedModel | None = None

    def of(self, policy: Any) -> PreTrainedModel:
        """The copy with the policy's current weights; LoRA adapters are merged into them."""
        import torch

        base = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        if self.model is None:
            self.model = self._made(base)
        with torch.no_grad():
            for name, weight in base.named_parameters():
                if ".lora_" not in name:
                    self._take(name.replace(".base_layer.", "."), weight)
            for name, layer in base.named_modules():
                if hasattr(layer, "get_delta_weight"):  # a layer with LoRA adapters
                    change = sum(map(layer.get_delta_weight, layer.active_adapters))
                    self._take(f"{name}.weight", layer.base_layer.weight + change)
        return self.model

    def _take(self, name: str, weight: torch.Tensor) -> None:
        """Copy one weight, gathered from all ranks if FSDP divided it."""
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        name = name.replace("._checkpoint_wrapped_module", "")  # FSDP's activation checkpointing
        self.model.get_parameter(name).copy_(whole)

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
        return (copy.to(self.device) if self.device else models.placed(copy)).eval()


def divided(model: Any) -> bool:
    """Whether the model's weights are divided among ranks (FSDP 2: they are DTensors)."""
    return ranks.divided() and any(hasattr(weight, "full_tensor") for weight in model.parameters())


def whole(model: Any, device: str = "") -> Any:
    """The model itself, or where its weights are divided a whole copy; all ranks must call it."""
    if not divided(model):
        return model
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return InferenceCopy(dtype, device).of(model)
