"""Check this machine: installed packages, the device for training, possible problems.

Run it with ``python -m trlm_utils doctor``.
"""

from __future__ import annotations

import platform
import shutil
import sys
from typing import Any

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
    """Rows about the GPU that torch sees: what, found, verdict.

    On ROCm the error "invalid device function" means that torch was not built for the
    architecture of the GPU. So the two are compared here, before any kernel is launched.
    """
    import torch

    if not torch.cuda.is_available():
        return [("GPU", "none found by torch", "ok")]
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / 2**30:.0f} GiB"
    lines = [("GPU", f"{torch.cuda.get_device_name(0)}, {memory}", "ok")]
    if torch.version.hip:
        arch = getattr(properties, "gcnArchName", "").split(":")[0]
        built = torch.cuda.get_arch_list()
        good = not built or arch in built
        advice = "ok" if good else f"this torch is built for {', '.join(built)} only"
        lines.append(("ROCm architecture", arch or "unknown", advice))
    return lines


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
