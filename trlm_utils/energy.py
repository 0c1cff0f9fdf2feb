"""Energy used so far, in joules, from hardware counters: Intel's and AMD's RAPL, NVIDIA's NVML.

Most shared and virtual machines have no readable counter. Then every function returns None,
and the report leaves the column empty. RAPL measures the whole processor package, so it
includes other processes.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def joules(folder: Path = POWERCAP) -> float | None:
    """Sum of all readable counters, in joules from an arbitrary zero; None if there is none."""
    found = [value for value in (_packages(folder), _graphics()) if value is not None]
    return sum(found) if found else None


def spent(before: float | None, after: float | None) -> float | None:
    """Joules between two readings; None if one is missing or a counter overflowed."""
    if before is None or after is None or after < before:
        return None
    return after - before


def _packages(folder: Path) -> float | None:
    """RAPL: joules of all processor packages (each counter is in microjoules)."""
    total = None
    for path in folder.glob("intel-rapl:[0-9]*/energy_uj"):
        if path.parent.name.count(":") > 1:  # a subdomain, already counted in its package
            continue
        try:
            total = (total or 0.0) + int(path.read_text()) / 1e6
        except (OSError, ValueError):
            return None
    return total


def _graphics() -> float | None:
    """NVML: joules of all GPUs visible to this process (each counter is in millijoules)."""
    try:
        import pynvml

        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(card) for card in cards) / 1e3
    except Exception:  # no library, no driver, no GPU, or a GPU without this counter
        return None
