"""Ranks: the processes that train one model together, numbered as torchrun numbers them.

torchrun gives each process its number in ``RANK`` and their count in ``WORLD_SIZE``; accelerate
and TRL read the same variables. In a process of its own the rank is 0 and the count is 1.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

APART = 1_000_003  # between the seeds of two ranks
FOLDER = ".ranks"  # in a run's folder: of each stage that is training, what ranks above 0 write


def rank() -> int:
    """This process's number; 0 writes the results."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def here() -> int:
    """Number of these processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def folder(run: Path, stage: str) -> Path:
    """Where the ranks of a stage leave what is not its result."""
    return run / FOLDER / stage


def from_first(value: Any) -> Any:
    """What rank 0 passes, on all ranks: for results that must not differ, such as draws."""
    if world() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _join()
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


def together(work: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """The results of work on all items, on all ranks; each rank works on a part of them.

    Args:
        work: takes items and returns a result for each, which can be pickled.
        items: the same on all ranks; their number need not be divisible.
    """
    if world() == 1:
        return work(items)
    from accelerate.utils import gather_object

    _join()
    first, last = (len(items) * number // world() for number in (rank(), rank() + 1))
    return gather_object(work(items[first:last]))


def seed(number: int) -> int:
    """A seed of this rank's own; of a process of its own, the number itself."""
    return number + APART * rank()


def divided() -> bool:
    """Whether accelerate divides the weights among the ranks of this training (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def taking_optimizers(trainer_class: type) -> type:
    """The trainer class; with FSDP a subclass that takes ``optimizers`` there, too.

    transformers refuses an optimizer that is given at the start. Set afterwards it is used as
    it is, and accelerate exchanges its weights for the divided ones (FSDP 2).
    """
    if not divided():
        return trainer_class

    class TakingOptimizers(trainer_class):
        def __init__(self, *given, optimizers=(None, None), **settings):  # noqa: ANN001, ANN002
            super().__init__(*given, **settings)
            self.optimizer, self.lr_scheduler = optimizers

    return TakingOptimizers


def add_up_in_fp32(trainer: Any) -> None:
    """With FSDP in half precision, sum gradients in fp32, as without it.

    accelerate would add those of the ranks, and of the passes of a step, with 8 bits each.
    """
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if policy is not None:
        import torch

        plugin.mixed_precision_policy = dataclasses.replace(policy, reduce_dtype=torch.float32)


def wait() -> None:
    """Wait until every rank has come this far."""
    if world() > 1:
        _join().wait_for_everyone()


def _join() -> Any:
    """accelerate's state of this process, connected with the other ranks.

    Without a trainer before it accelerate would look for an accelerator only, find none on a CPU,
    and take each rank for a process of its own.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
