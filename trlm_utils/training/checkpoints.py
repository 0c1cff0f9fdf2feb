"""Checkpoints of a trainer: find complete ones, and resume training from the newest.

transformers 5.23 writes them in three layouts (``Trainer._save_checkpoint``, accelerate's
``fsdp_utils``), and ``trainer_state.json`` last:

- one process or DDP: weights (or adapters), ``optimizer.pt``, ``scheduler.pt``, and
  ``rng_state.pth`` or ``rng_state_<rank>.pth``;
- DeepSpeed: ``global_step<n>/``, whose name is in the file ``latest``;
- FSDP: ``pytorch_model_fsdp.bin`` and ``optimizer.bin``, or folders of shards.

A training goes on only from checkpoints of its own kind: with FSDP from FSDP's, else from others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trlm_utils import ranks
from trlm_utils.files import free_name

STATE = "trainer_state.json"  # in each checkpoint; when training has ended, also in its parent
NAME = re.compile(r"checkpoint-(\d+)")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")


def whole_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, from which training can be resumed, oldest first.

    A process that is killed while it saves leaves an incomplete checkpoint: files are
    missing, or one is truncated.
    """
    return list(filter(_is_whole, numbered(folder)))


def numbered(folder: Path) -> list[Path]:
    """Folders named ``checkpoint-<step>``, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def _is_whole(checkpoint: Path) -> bool:
    from safetensors import safe_open

    try:
        _state(checkpoint)
        for path in checkpoint.rglob("*.safetensors"):
            with safe_open(path, "pt") as tensors:
                tensors.keys()
        layouts = (_fsdp,) if ranks.divided() else (_plain, _deepspeed)
        return any(layout(checkpoint) for layout in layouts)
    except Exception:  # truncated files raise errors of many types
        return False


def _plain(checkpoint: Path) -> bool:
    """Layout of one process, or of several that each hold the whole model (DDP)."""
    index = list(checkpoint.glob("*.index.json"))  # index of weights in several files
    named = {name for path in index for name in json.loads(path.read_text())["weight_map"].values()}
    weights = [path for pattern in WEIGHTS for path in checkpoint.glob(pattern)]
    random = [*checkpoint.glob("rng_state.pth"), *checkpoint.glob("rng_state_*.pth")]
    needed = ("optimizer.pt", "scheduler.pt", *named)
    return bool(weights and random) and all((checkpoint / name).is_file() for name in needed)


def _deepspeed(checkpoint: Path) -> bool:
    """DeepSpeed's layout: ``latest`` is written after the folder that it names."""
    latest = checkpoint / "latest"
    states = checkpoint / latest.read_text().strip() if latest.is_file() else None
    return states is not None and any(states.glob("*_states.pt"))


def _fsdp(checkpoint: Path) -> bool:
    """FSDP's layout: all weights in one file; or shards, with ``.metadata`` written last."""
    if not (checkpoint / "scheduler.pt").is_file():
        return False
    for name in ("pytorch_model_fsdp", "optimizer"):
        whole = any(checkpoint.glob(f"{name}*.bin"))
        if not whole and not (checkpoint / f"{name}_0" / ".metadata").is_file():
            return False
    return True


def _state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / STATE).read_text(encoding="utf-8"))


def train_or_resume(trainer: Any) -> str:
    """Train, or resume from the newest complete checkpoint if there is one.

    If the training had already ended, it is not repeated: model, log and random state are
    loaded from its last checkpoint, which transformers writes at the last step. Checkpoints
    that are incomplete or of unknown layout are moved to ``partial/``.

    Returns:
        A line that says at which step training started.

    Raises:
        RuntimeError: when the ranks that were started do not train together.
    """
    if trainer.args.world_size != ranks.world():
        raise RuntimeError(
            f"{ranks.world()} ranks were started, but the trainer knows {trainer.args.world_size}"
        )
    ranks.add_up_in_fp32(trainer)
    folder = Path(trainer.args.output_dir)
    whole = whole_checkpoints(folder)
    if trainer.is_world_process_zero():
        _set_aside([path for path in folder.glob("checkpoint-*") if path not in whole])
    trainer.add_callback(_log_before_saving())
    if not whole:
        trainer.train()
        start = "started at step 0"
    elif _state(whole[-1])["global_step"] >= _steps(trainer):
        _take(trainer, whole[-1])
        start = f"had ended at step {trainer.state.global_step}"
    else:
        before = _go_on_counting(trainer, _state(whole[-1])["log_history"])
        trainer.train(resume_from_checkpoint=str(whole[-1]))
        trainer.state.log_history[-1]["tokens_before"] = before
        start = f"went on from step {whole[-1].name.split('-')[1]}"
    trainer.save_state()  # includes the log's last row, which is written after the last checkpoint
    trainer.model.eval()
    return start


def _set_aside(checkpoints: list[Path]) -> None:
    """Move checkpoints to another folder, because the trainer deletes old ones by name."""
    for path in checkpoints:
        aside = path.parent / "partial" / path.name
        aside.parent.mkdir(exist_ok=True)
        path.rename(free_name(aside) if aside.exists() else aside)


def _steps(trainer: Any) -> int:
    """Number of optimizer steps of the whole training."""
    *_, steps = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    return steps


def _take(trainer: Any, checkpoint: Path) -> None:
    """Load the state at the end of a training; ``train`` would take one more step."""
    from transformers import TrainerState

    trainer._load_from_checkpoint(str(checkpoint))
    ended, step = checkpoint.parent, _state(checkpoint)["global_step"]
    if not (ended / STATE).is_file() or _state(ended)["global_step"] != step:
        ended = checkpoint  # the process was killed before it saved the final state
    trainer.state = TrainerState.load_from_json(str(ended / STATE))
    # the process may have been killed before `callbacks.kept_checkpoints` saved this model
    trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
    trainer._load_rng_state(str(checkpoint))  # later sampling draws the same numbers


def _go_on_counting(trainer: Any, log: list[dict[str, Any]]) -> int:
    """Restore the trainer's token count from a checkpoint's log, and return it.

    TRL's trainers with ``_total_train_tokens`` (SFT, DPO, reward) would count from 0 in a new
    process; the others keep the count in the trainer's state.
    """
    counted = int(next((row["num_tokens"] for row in reversed(log) if "num_tokens" in row), 0))
    if hasattr(trainer, "_total_train_tokens"):
        trainer._total_train_tokens = counted
    return counted


def _log_before_saving() -> Any:
    """A callback that logs before each checkpoint, so that a resumed log is complete.

    A checkpoint does not store the metrics accumulated since the last log row. The last step
    needs no such row.
    """
    from transformers import TrainerCallback

    class LogBeforeSaving(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):  # noqa: ANN001
            if control.should_save and state.global_step < state.max_steps:
                control.should_log = True

    return LogBeforeSaving()
