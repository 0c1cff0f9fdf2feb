"""Facts about this machine: device, number format, cores, threads, memory, versions."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trlm_utils import ranks

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "datasets",
    "peft",
    "lm-eval",
    "math-verify",
)
MANY = 10_000_000  # models with at least so many parameters use several threads


@dataclass(frozen=True)
class Precision:
    """Number format for training, and the reason for it. Weights stay in fp32."""

    bf16: bool
    fp16: bool
    why: str

    @property
    def name(self) -> str:
        """``fp32``, ``fp16`` or ``bf16``."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"


def choose_precision(device: str, capability: tuple[int, int] | None = None) -> Precision:
    """Choose the number format: fp32 on CPU, fp16 before Ampere, bf16 from Ampere on.

    On AMD the card is asked (`half_works`): bf16 if it computes in it, else fp16, else fp32. Any
    other accelerator gets fp32, because its half precision was not tried.

    torch's ``is_bf16_supported`` does not help: it returns True on a T4, which only emulates
    bf16. So the compute capability decides.

    Args:
        device: "cpu", "cuda", "rocm", "mps" or the name of another accelerator.
        capability: CUDA compute capability (major, minor); for "cuda" only.

    Raises:
        ValueError: for "cuda" without a capability.
    """
    if device in ("cpu", "mps"):
        return Precision(False, False, f"{device}: half precision gains nothing here")
    if device == "rocm":
        if half_works("bfloat16"):
            return Precision(True, False, "ROCm GPU: bf16 was tried on it and is right")
        if half_works("float16"):
            return Precision(False, True, "ROCm GPU: bf16 was tried on it and fails, fp16 is right")
        return Precision(False, False, "ROCm GPU: half precision was tried on it and fails")
    if device != "cuda":
        return Precision(False, False, f"{device}: half precision was not tried here")
    if capability is None:
        raise ValueError("no precision known for a CUDA device without its capability")
    if capability[0] >= 8:
        return Precision(True, False, f"compute capability {capability}: bf16 in hardware")
    return Precision(False, True, f"compute capability {capability}: bf16 only emulated")


def precision_for(model: Any) -> Precision:
    """`choose_precision` for the device of this process and for this model.

    On a CPU that multiplies in bf16 (AVX512-BF16 or AMX), a model of at least `MANY` parameters
    trains in it: a model of SmolLM2-135M's shape read 230 tokens a second instead of 124 on two
    such cores (one trial). A smaller model waits for other things than multiplication.

    Args:
        model: a transformers model, or anything with ``num_parameters()``.
    """
    device, capability = detect_device()
    if device == "cpu" and model.num_parameters() >= MANY and multiplies_in_bf16():
        return Precision(True, False, "cpu: bf16 in hardware, and a model large enough")
    return choose_precision(device, capability)


def multiplies_in_bf16() -> bool:
    """Whether this CPU has instructions that multiply bf16 numbers."""
    import torch

    known = getattr(torch.cpu, "get_capabilities", dict)()  # absent from older torch
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@functools.cache
def half_works(name: str) -> bool:
    """Whether attention, forward and backward, is finite and about right in a half precision.

    Asked on AMD cards, where it depends on the card: gfx1151 made NaN in FlashAttention-2
    (unslothai/unsloth PR 3588), gfx103x has no bf16 instructions (unsloth#5337), both read in
    November 2026. The random numbers are from a generator of its own.

    Args:
        name: "bfloat16" or "float16".
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(3, 1, 4, 256, 64, generator=draw)  # query, key, value of 4 heads
    results = []
    for dtype in (torch.float32, getattr(torch, name)):
        device = torch_device() if dtype != torch.float32 else "cpu"
        inputs = exact.to(device, dtype, copy=True).requires_grad_()
        try:
            out = scaled_dot_product_attention(*inputs, is_causal=True)
            out.float().square().sum().backward()
        except RuntimeError:  # no such instructions or kernels
            return False
        results.append([x.detach().float().cpu() for x in (out, inputs.grad)])
    # bf16 keeps 8 bits: a relative error of 0.4 % a number, a few of them added up
    return all(
        bool((half - full).norm() <= 0.05 * full.norm())  # False for NaN
        for full, half in zip(*results, strict=True)
    )


def torch_device() -> Any:
    """The device that the trainers use, and on which models are therefore placed.

    It is accelerate's choice: the environment variable ACCELERATE_TORCH_DEVICE, else this
    process's GPU, else Apple's (MPS), else the CPU.
    """
    import torch

    if named := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        return torch.device(named)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    mps = getattr(torch.backends, "mps", None)
    return torch.device("mps" if mps and mps.is_available() else "cpu")


def detect_device() -> tuple[str, tuple[int, int] | None]:
    """The kind of device training will use, and its CUDA capability if it has one."""
    import torch

    kind = torch_device().type
    if kind != "cuda":
        return kind, None
    return ("rocm", None) if torch.version.hip else ("cuda", torch.cuda.get_device_capability())


def peak_device_memory_mb() -> float:
    """Peak accelerator memory held by tensors so far, in MiB (0 on a CPU)."""
    module = _device_module("max_memory_allocated")
    return module.max_memory_allocated() / 2**20 if module else 0.0


def free_device_memory() -> int | None:
    """Free accelerator memory in bytes; None on a CPU and where it is unknown."""
    module = _device_module("mem_get_info")
    return module.mem_get_info()[0] if module else None


def _device_module(function: str) -> Any:
    """torch's module for the accelerator (e.g. ``torch.cuda``) if it has this function."""
    import torch

    device = torch_device()
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    return module if hasattr(module, function) else None


def cores() -> int:
    """Number of cores that this process may use.

    In a container this is often fewer than the cores that are visible.
    """
    return len(own_cores())


def own_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def visible_cards() -> tuple[str, list[str]]:
    """The environment variable that limits which GPUs a process sees, and those that are visible.

    Counting them does not initialise the GPUs.
    """
    import torch

    name = "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES"
    given = os.environ.get(name)
    if given is not None:
        return name, [card.strip() for card in given.split(",") if card.strip()]
    return name, [str(number) for number in range(torch.cuda.device_count())]


def limit_threads(model: Any = None) -> int:
    """Set the number of torch threads by the size of the model, and return it.

    Models under `MANY` parameters get one thread. Larger ones get all cores that this process
    may use, shared with other ranks (by default torch starts one thread per core). Measured with
    `tools.threads` on two cores (``figures/threads.csv``): OpenMP's threads spin while they
    wait (busy waiting), so next to one busy process two threads take 2.6 to 21 times as long
    as one. The runner needs the second core for evaluation and for the next kernel, so it lets
    waiting threads sleep (``OMP_WAIT_POLICY=passive``). Then two threads take 1.1 to 1.25 times
    as long as one next to a busy process. On an idle machine two threads are faster in every
    kind of work only from 29 million parameters on (0.84 to 0.86 times as long); at 7 million
    they are slower.

    Args:
        model: the model to train or to sample from; None counts as small.
    """
    import torch

    large = model is not None and model.num_parameters() >= MANY
    torch.set_num_threads(max(1, cores() // ranks.here()) if large else 1)
    return torch.get_num_threads()


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, for manifests and reports."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES}


def version_of(package: str) -> str:
    """A package's version, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MiB (0 if unknown)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)
