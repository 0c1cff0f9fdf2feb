"""Sides of a benchmark that take turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def rate(work: Callable[[], int]) -> float:
    """Units of work per second of one call; ``work`` returns how many it did."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def compare(sides: dict[str, Callable[[], int]], repeats: int) -> dict[str, list[float]]:
    """Rates of several sides that take turns, after one uncounted turn each."""
    for work in sides.values():
        work()
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            rates[name].append(rate(work))
    return rates


def line(name: str, values: Sequence[float], unit: str = "") -> str:
    """``name  median [lowest, highest] unit``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{name:<34} {middle:12,.1f} [{low:,.1f}, {high:,.1f}] {unit}"
