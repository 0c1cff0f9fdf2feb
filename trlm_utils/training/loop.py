"""Checkpoints of a training loop of one's own, through accelerate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trlm_utils.files import read_json, write_json
from trlm_utils.training import checkpoints

STATE = "loop.json"
KEPT = 2  # checkpoints; the newest can be resumed from


def save(accelerator: Any, folder: Path, state: dict[str, Any]) -> None:
    """Write all that the accelerator prepared, random states included, and the loop's own state.

    The checkpoint gets its name when it is complete, so a kill never leaves half of one.

    Args:
        folder: of the checkpoints.
        state: what JSON can hold, with ``step``, the optimizer steps done.
    """
    place = folder / f"checkpoint-{state['step']}"
    partial = folder / f"{place.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    accelerator.save_state(str(partial))
    write_json(partial / STATE, state)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    for old in found(folder)[:-KEPT]:
        shutil.rmtree(old)


def resume(accelerator: Any, folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint into all that the accelerator prepared.

    Returns:
        The loop's state as it was saved; None where there is no checkpoint.
    """
    whole = found(folder)
    if not whole:
        return None
    accelerator.load_state(str(whole[-1]))
    return read_json(whole[-1] / STATE)


def found(folder: Path) -> list[Path]:
    """Complete checkpoints of such loops, oldest first."""
    return [path for path in checkpoints.numbered(folder) if (path / STATE).is_file()]
