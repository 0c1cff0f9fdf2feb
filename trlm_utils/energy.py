"""Energy used so far, where the machine tells it: Intel's and AMD's RAPL, NVIDIA's NVML.

Most shared and virtual machines tell nothing; then every function says None, and the
report leaves the column empty. RAPL counts the whole package, whoever uses it.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def joules(folder: Path = POWERCAP) -> float | None:
    """Sum of all readable counters, in joules since an unknown start; None without one."""
    found = [value for value in (_packages(folder), _graphics()) if value is not None]
    return sum(found) if found else None


def spent(before: float | None, after: float | None) -> float | None:
    """Joules between two readings; None where either is missing or a counter wrapped."""
    if before is None or after is None or after < before:
        return None
    return after - before


def _packages(folder: Path) -> float | None:
    """RAPL: one counter of microjoules per processor package."""
    total = None
    for path in folder.glob("intel-rapl:[0-9]*/energy_uj"):
        if path.parent.name.count(":") > 1:  # a part of a package, counted there
            continue
        try:
            total = (total or 0.0) + int(path.read_text()) / 1e6
        except (OSError, ValueError):
            return None
    return total


def _graphics() -> float | None:
    """NVML: millijoules of every card this process can see."""
    try:
        import pynvml

        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(card) for card in cards) / 1e3
    except Exception:  # no library, no driver, no card, or a card that does not tell
        return None
