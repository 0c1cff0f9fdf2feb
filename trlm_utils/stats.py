"""Intervals: every accuracy and every difference in the course carries one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(share: float, n: float) -> tuple[float, float]:
    """95 % Wilson interval of a proportion seen in ``n`` independent trials.

    (Wilson 1927.) Unlike "share plus or minus two standard errors" it has a width
    where the share is 0 or 1: 0 of 200 gives [0, 0.019].

    Args:
        share: in [0, 1].
        n: number of trials; may be a fraction (an effective number).

    Raises:
        ValueError: for a share outside [0, 1] or n <= 0.
    """
    if not 0 <= share <= 1 or n <= 0:
        raise ValueError(f"no interval for share {share} of {n}")
    centre = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    # rounding must not put the share itself outside its interval
    low, high = (centre - half) / scale, (centre + half) / scale
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def mean_interval(scores: Sequence[float], samples: int = 1) -> tuple[float, float, float]:
    """Mean of per-question scores in [0, 1] with its 95 % interval.

    Questions are the independent unit. Several samples of one question are not
    independent, so they enter as that question's mean, and the interval is Wilson's
    at the effective number of trials p(1-p) / Var(mean): for greedy answers (scores 0
    or 1) this is Wilson's interval on the questions, up to the factor (n-1)/n.

    Args:
        scores: one per question, each the mean of ``samples`` answers.
        samples: answers per question; questions x samples bounds the trials.

    Returns:
        ``(mean, low, high)``.

    Raises:
        ValueError: for an empty sequence.
    """
    n = len(scores)
    if n == 0:
        raise ValueError("no scores")
    mean = sum(scores) / n
    effective = float(n)
    if n > 1:
        variance = standard_error(scores) ** 2
        if variance > 1e-12:
            effective = min(max(mean * (1 - mean) / variance, 1.0), n * samples)
    return (mean, *wilson(mean, effective))


def standard_error(scores: Sequence[float]) -> float:
    """Standard error of the mean of scores (of questions, or of seeds); 0 for a single one.

    What lm-eval prints. `mean_interval` says more: it has a width where all scores agree.
    """
    n = len(scores)
    if n < 2:
        return 0.0
    mean = sum(scores) / n
    return math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1) / n)


def paired_difference(
    before: Sequence[float], after: Sequence[float]
) -> tuple[float, float, float]:
    """Mean of after minus before on the same questions, with its 95 % interval.

    The interval is the mean plus or minus 1.96 standard errors, where four imagined
    questions (one won, one lost, two unchanged) are added for the error, after Agresti
    and Min 2005: without them, answers that never change would give a width of zero.

    Returns:
        ``(difference, low, high)``, within [-1, 1].

    Raises:
        ValueError: when the sequences differ in length or have fewer than two items.
    """
    if len(before) != len(after) or len(before) < 2:
        raise ValueError(f"cannot pair {len(before)} with {len(after)} scores")
    changes = [b - a for a, b in zip(before, after, strict=True)]
    mean = sum(changes) / len(changes)
    padded = [*changes, 1.0, -1.0, 0.0, 0.0]
    error = standard_error(padded)
    return mean, max(-1.0, mean - Z * error), min(1.0, mean + Z * error)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that at least one of ``k`` samples is right, from ``right`` of ``n`` drawn.

    The unbiased estimate 1 - C(n - right, k) / C(n, k) of Chen et al. 2021 ("Evaluating
    Large Language Models Trained on Code").

    Raises:
        ValueError: unless 1 <= k <= n and 0 <= right <= n.
    """
    if not (1 <= k <= n and 0 <= right <= n):
        raise ValueError(f"pass@{k} cannot be told from {right} of {n} samples")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def percent(value: float) -> str:
    """A share as a number of per cent with one decimal."""
    return f"{100 * value:.1f}"


def interval(row: dict[str, Any]) -> str:
    """The interval of a row, in per cent: ``[12.3, 45.6]``."""
    return f"[{percent(row['low'])}, {percent(row['high'])}]"


def points(difference: float, low: float, high: float) -> str:
    """A difference of shares with its interval, in points: ``+1.0 [-0.2, +2.2]``."""
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
