"""Check this machine: installed packages, the device for training, possible problems.

Run it with ``python -m trlm_utils doctor``.
"""

from __future__ import annotations

import platform
import shutil
import sys
from typing import Any

from trlm_utils import rocm
from trlm_utils.files import runs_root
from trlm_utils.machine import choose_precision, cores, detect_device, package_versions

MIN_PYTHON = (3, 11)
MIN_FREE_MB = 500


def free_disk_mb() -> float:
    """Free disk space where runs are written, in MiB."""
    folder = runs_root()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**20


def gpu_lines() -> list[tuple[str, str, str]]:
    """Rows about the GPU that torch sees: what, found, verdict; on ROCm those of `rocm` too."""
    import torch

    if not torch.cuda.is_available():
        return [("GPU", "none found by torch", "ok")]
    memory = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    lines = [("GPU", f"{torch.cuda.get_device_name(0)}, {memory}", "ok")]
    return [*lines, *rocm.rows()] if torch.version.hip else lines


def examine() -> Any:
    """All checks as a data frame: what, found, verdict ("ok" or advice)."""
    import pandas as pd
    import torch

    device, capability = detect_device()
    precision = choose_precision(device, capability)
    python_ok = sys.version_info[:2] >= MIN_PYTHON
    free = free_disk_mb()
    lines = [
        (
            "python",
            platform.python_version(),
            "ok" if python_ok else f"needs {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer",
        ),
        *((name, v, "ok") for name, v in package_versions().items() if name != "python"),
        ("platform", f"{platform.system()} {platform.machine()}", "ok"),
        ("cores", str(cores()), "ok"),
        ("torch threads", str(torch.get_num_threads()), "ok"),
        (
            "free disk",
            f"{free / 1024:.0f} GiB",
            "ok" if free > MIN_FREE_MB else f"needs {MIN_FREE_MB} MiB free",
        ),
        *gpu_lines(),
        ("device", device, "ok"),
        ("precision", precision.name, precision.why),
    ]
    for i, (name, found, _) in enumerate(lines):
        if found == "not installed":
            lines[i] = (name, found, "pip install -r requirements.txt")
    return pd.DataFrame(lines, columns=["what", "found", "verdict"])
