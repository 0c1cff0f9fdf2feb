"""Checkpoints of a custom training loop (notebook 12), through accelerate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trlm_utils.files import read_json, write_json
from trlm_utils.training import checkpoints

STATE = "loop.json"
KEPT = 2  # number of checkpoints on disk; the newest is used to resume


def save(accelerator: Any, folder: Path, state: dict[str, Any]) -> None:
    """Save a checkpoint: all objects that the accelerator prepared, random states, loop state.

    The checkpoint gets its final name only when it is complete.

    Args:
        folder: folder of all checkpoints.
        state: the loop's state, JSON-serialisable, with ``step``, the optimizer steps done.
    """
    place = folder / f"checkpoint-{state['step']}"
    partial = folder / f"{place.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))  # each rank adds its random state
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    write_json(partial / STATE, state)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    for old in found(folder)[:-KEPT]:
        shutil.rmtree(old)


def resume(accelerator: Any, folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint into all objects that the accelerator prepared.

    Returns:
        The loop's saved state; None if there is no checkpoint.
    """
    whole = found(folder)
    if not whole:
        return None
    accelerator.load_state(str(whole[-1]))
    return read_json(whole[-1] / STATE)


def found(folder: Path) -> list[Path]:
    """Complete checkpoints of a loop, oldest first."""
    return [path for path in checkpoints.numbered(folder) if (path / STATE).is_file()]
