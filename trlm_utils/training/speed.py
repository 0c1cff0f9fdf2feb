"""Tokens of a training and its speed, read from the trainer's log."""

from __future__ import annotations

from typing import Any


def tokens_seen(log: Any) -> int:
    """Tokens of a whole training, from its log (column ``num_tokens``).

    TRL counts from 0 again in a process that goes on from a checkpoint; a fall in the
    column is such a start, so the parts are added up.
    """
    if "num_tokens" not in log:
        return 0
    total = before = 0.0
    for count in log["num_tokens"].dropna():
        total += count - before if count >= before else count
        before = count
    return int(total)


def training_speed(log: Any) -> float:
    """Tokens trained on per second of training, of this process (0 if it did not train).

    Args:
        log: the trainer's log; its last row has the run time of the process that ended
            the training, whose tokens are counted from 0.
    """
    if "num_tokens" not in log or "train_runtime" not in log:
        return 0.0
    counts, seconds = log["num_tokens"].dropna(), log["train_runtime"].dropna()
    if counts.empty or seconds.empty or seconds.iloc[-1] <= 0:
        return 0.0
    return float(counts.iloc[-1] / seconds.iloc[-1])
