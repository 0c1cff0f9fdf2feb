"""Facts about this machine: device, number format, cores, threads, memory, versions."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "datasets",
    "peft",
    "lm-eval",
    "math-verify",
)
MANY = 10_000_000  # parameters from which on more than one thread is used


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
    """fp32 on CPU, fp16 before Ampere, bf16 from Ampere on and on AMD GPUs.

    The question "is bf16 supported" is no help: it is answered yes on a T4, which
    only emulates it. So the compute capability decides.

    Args:
        device: "cpu", "cuda", "rocm" or "mps".
        capability: CUDA compute capability (major, minor); for "cuda" only.

    Raises:
        ValueError: for another device, or "cuda" without a capability.
    """
    if device in ("cpu", "mps"):
        return Precision(False, False, f"{device}: half precision gains nothing here")
    if device == "rocm":
        return Precision(True, False, "ROCm GPU: bf16 in hardware")
    if device != "cuda" or capability is None:
        raise ValueError(f"no precision known for {device!r} with {capability}")
    if capability[0] >= 8:
        return Precision(True, False, f"compute capability {capability}: bf16 in hardware")
    return Precision(False, True, f"compute capability {capability}: bf16 only emulated")


def detect_device() -> tuple[str, tuple[int, int] | None]:
    """The device training will use, and its CUDA capability if it has one."""
    import torch

    if torch.cuda.is_available():
        if torch.version.hip:
            return "rocm", None
        return "cuda", torch.cuda.get_device_capability()
    mps = getattr(torch.backends, "mps", None)
    return ("mps" if mps and mps.is_available() else "cpu"), None


def on_device(model: Any) -> Any:
    """The model on the GPU if there is one, for a stage that has no trainer to move it."""
    import torch

    return model.to("cuda") if torch.cuda.is_available() else model


def cores() -> int:
    """Cores this process may use.

    A container often shows more cores than it grants.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(model: Any = None) -> int:
    """Let torch use as many threads as a model of this size gains from; returns their number.

    A small model's work is split into parts too small to share: a second thread gains
    little, and with any other work on the machine both threads wait for each other. So
    models under `MANY` parameters get one thread and others all cores that this process may
    use (torch would start as many as the machine shows). Measured: `tools.threads`.

    Args:
        model: that is trained or asked; none counts as small.
    """
    import torch

    large = model is not None and model.num_parameters() >= MANY
    torch.set_num_threads(cores() if large else 1)
    return torch.get_num_threads()


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on, for manifests and reports."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MiB (0 where unknown)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)
