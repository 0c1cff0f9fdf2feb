"""Checkpoints of a trainer: which can be resumed from, and going on from the newest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that can be resumed from, oldest first.

    A process killed while it saves leaves a checkpoint folder that lacks its last
    files or holds a cut-off one. The trainer writes ``trainer_state.json`` last.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return [path for path in found if _is_whole(path)]


def _is_whole(checkpoint: Path) -> bool:
    import json

    from safetensors import safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        weights = list(checkpoint.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, "pt") as tensors:
                tensors.keys()
    except Exception:
        return False
    needed = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    return bool(weights) and all((checkpoint / n).is_file() for n in needed)


def train_or_resume(trainer: Any) -> str:
    """Train, going on from the newest whole checkpoint if there is one.

    Checkpoints that are half written are removed, and an older one is used.

    Returns:
        A line saying where training started.
    """
    folder = Path(trainer.args.output_dir)
    whole = whole_checkpoints(folder)
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)
    if whole:
        trainer.train(resume_from_checkpoint=str(whole[-1]))
        start = f"went on from step {whole[-1].name.split('-')[1]}"
    else:
        trainer.train()
        start = "started at step 0"
    trainer.model.eval()
    return start
