"""Tokens of a training and its speed, read from the trainer's log."""

from __future__ import annotations

from typing import Any


def tokens_seen(log: Any) -> int:
    """Tokens of a whole training, from its log (column ``num_tokens``).

    `checkpoints.train_or_resume` lets a resumed trainer go on counting.
    """
    counts = log["num_tokens"].dropna() if "num_tokens" in log else ()
    return int(counts.iloc[-1]) if len(counts) else 0


def training_speed(log: Any) -> float:
    """Tokens trained on per second by the process that ended the training (0 if unknown).

    Args:
        log: the trainer's log; its last row has the run time of that process, and, where it
            went on from a checkpoint, the tokens that earlier ones had counted.
    """
    seconds = _last(log, "train_runtime")
    if seconds <= 0:
        return 0.0
    return (tokens_seen(log) - _last(log, "tokens_before")) / seconds


def rollout_speed(log: Any) -> float:
    """Completion tokens drawn per second, as `callbacks.rollout_speed` logs them (0: unknown)."""
    return _last(log, "rollout_tokens_per_second")


def _last(log: Any, name: str) -> float:
    """A value of the row that ends a log, 0 where it has none."""
    import pandas as pd

    value = log[name].iloc[-1] if name in log and len(log) else 0.0
    return 0.0 if pd.isna(value) else float(value)
