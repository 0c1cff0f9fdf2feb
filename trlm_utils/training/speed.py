"""Number of training tokens, and speeds in tokens per second, from the trainer's log."""

from __future__ import annotations

from typing import Any


def tokens_seen(log: Any) -> int:
    """Number of tokens of a whole training, from its log (column ``num_tokens``).

    It includes the tokens before a resume: `checkpoints.train_or_resume` restores the count.
    """
    counts = log["num_tokens"].dropna() if "num_tokens" in log else ()
    return int(counts.iloc[-1]) if len(counts) else 0


def training_speed(log: Any) -> float:
    """Training tokens per second, of the process that ended the training (0 if unknown).

    Args:
        log: the trainer's log. Its last row has the run time of this process and, if the
            training was resumed, the number of tokens of earlier processes.
    """
    seconds = _last(log, "train_runtime")
    if seconds <= 0:
        return 0.0
    return (tokens_seen(log) - _last(log, "tokens_before")) / seconds


def rollout_speed(log: Any) -> float:
    """Completion tokens sampled per second, from `callbacks.rollout_speed` (0 if unknown)."""
    return _last(log, "rollout_tokens_per_second")


def _last(log: Any, name: str) -> float:
    """A value of the log's last row; 0 if it is missing."""
    import pandas as pd

    value = log[name].iloc[-1] if name in log and len(log) else 0.0
    return 0.0 if pd.isna(value) else float(value)
