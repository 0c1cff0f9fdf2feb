"""Benchmark helpers: variants take turns, so that a slower phase of the machine affects all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def rate(work: Callable[[], int]) -> float:
    """Units of work per second of one call; ``work`` returns the number of units."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def compare(sides: dict[str, Callable[[], int]], repeats: int) -> dict[str, list[float]]:
    """Rates of several variants that take turns, after one warm-up turn each."""
    for work in sides.values():
        work()
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            rates[name].append(rate(work))
    return rates


def line(name: str, values: Sequence[float], unit: str = "") -> str:
    """Values as text: ``name  median [lowest, highest] unit``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{name:<34} {middle:12,.1f} [{low:,.1f}, {high:,.1f}] {unit}"
