"""Ranks: the processes that train one model together, numbered as torchrun numbers them.

torchrun gives each process its number in ``RANK`` and their count in ``WORLD_SIZE``; accelerate
and TRL read the same variables. In a process of its own the rank is 0 and the count is 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def rank() -> int:
    """This process's number; 0 writes the results."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def here() -> int:
    """Number of these processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def from_first(value: Any) -> Any:
    """What rank 0 passes, on all ranks: for results that must not differ, such as draws."""
    if world() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def share(items: Sequence[Any]) -> Sequence[Any]:
    """This rank's part of items that all ranks hold: one after another, of equal size.

    Raises:
        ValueError: when the ranks cannot have equal parts; they would wait for each other.
    """
    if len(items) % world():
        raise ValueError(f"{len(items)} cannot be divided equally among {world()} ranks")
    size = len(items) // world()
    return items[rank() * size : (rank() + 1) * size]


def wait() -> None:
    """Wait until every rank has come this far."""
    if world() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
