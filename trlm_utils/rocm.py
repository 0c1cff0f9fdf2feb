"""What decides about speed on an AMD card: its architecture, and how attention is computed.

The claims here were read in November 2026; each names its source. What can be measured is
measured instead, by `time_attention`.
"""

from __future__ import annotations

import os
import time
from typing import Any

from trlm_utils.machine import torch_device

FAST = "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL"  # environment variables
OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"
OVERRIDES = {"gfx1101": "11.0.0", "gfx1102": "11.0.0"}  # unsloth, installation on AMD
BACK_ENDS = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}
TOKENS, HEADS, SIZE = 1024, 8, 64  # of the timed attention
COST = (
    "attention takes the maths path, at 4,096 tokens 11.8 times as slow and with 16.3 times "
    "the memory (RX 9060 XT, unslothai/unsloth PR 8821, August 2026)"
)


def rows() -> list[tuple[str, str, str]]:
    """Rows for the doctor about an AMD card: what, found, verdict."""
    import torch

    arch = getattr(torch.cuda.get_device_properties(0), "gcnArchName", "").split(":")[0]
    built = torch.cuda.get_arch_list()
    timed = time_attention()
    return [
        ("ROCm", str(torch.version.hip), "ok"),
        ("ROCm architecture", arch or "unknown", architecture_verdict(arch, built)),
        (OVERRIDE, os.environ.get(OVERRIDE, "not set"), "ok"),
        (FAST, os.environ.get(FAST, "not set"), attention_verdict(arch, timed)),
        *((f"attention, {name}", told(took), "ok") for name, took in timed.items()),
    ]


def architecture_verdict(arch: str, built: list[str]) -> str:
    """ "ok", or what to do when torch was not built for the card's architecture.

    Such a torch fails with "invalid device function" at its first kernel.

    Args:
        arch: the card's, as gfx1100.
        built: those that torch was built for; empty if it does not say.
    """
    if not built or arch in built:
        return "ok"
    advice = f"this torch is built for {', '.join(built)} only"
    if arch in OVERRIDES:
        advice += f": set {OVERRIDE}={OVERRIDES[arch]}, or install a torch built for {arch}"
    return advice


def attention_verdict(arch: str, timed: dict[str, float | None]) -> str:
    """ "ok" where a fast kernel for attention works, else what is missing and what it costs.

    Args:
        timed: see `time_attention`.
    """
    if timed["flash"] is not None or timed["efficient"] is not None:
        return "ok"
    if os.environ.get(FAST) != "1":
        return f"set {FAST}=1: without it {COST}"
    return f"is set, and yet this torch has no fast kernel for {arch or 'this card'}: {COST}"


def time_attention(repeats: int = 5) -> dict[str, float | None]:
    """Milliseconds of attention, forward and backward, in each of torch's back ends.

    Measured on the device in fp16, which all cards have: 1,024 causal tokens, 8 heads of 64.
    None stands for a back end that is not there.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    found: dict[str, float | None] = {}
    shape = (3, 1, HEADS, TOKENS, SIZE)
    inputs = torch.ones(shape, dtype=torch.float16, device=torch_device()).requires_grad_()
    for name, back_end in BACK_ENDS.items():
        try:
            with sdpa_kernel(getattr(SDPBackend, back_end)):
                _attend(inputs)  # the first call compiles
                began = time.perf_counter()
                for _ in range(repeats):
                    _attend(inputs)
                found[name] = 1000 * (time.perf_counter() - began) / repeats
        except RuntimeError:
            found[name] = None
    return found


def _attend(inputs: Any) -> None:
    """Attention once, forward and backward, until the device has done it."""
    from torch.nn.functional import scaled_dot_product_attention

    inputs.grad = None
    scaled_dot_product_attention(*inputs, is_causal=True).sum().backward()
    inputs.grad.sum().item()  # waits for the device


def told(milliseconds: float | None) -> str:
    """A time of `time_attention` as text."""
    return "not available" if milliseconds is None else f"{milliseconds:.1f} ms"
