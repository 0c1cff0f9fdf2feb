"""Sentences over figures, computed from the tables that are drawn.

A title says a difference only with its 95 % interval, and "no difference detected" where the
interval includes zero. Otherwise it states levels. So no title can outlive its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils import stats

MOST_NAMED = 3  # arms that a title names; more, or two of one name, are only counted


def about(n: float = 0, seeds: int = 0, of: str = "questions", more: str = "") -> str:
    """What a figure stands on: ``n 400 questions, 5 seeds``; unknown (0) parts are left out."""
    parts = [f"n {int(n):,} {of}"] if n else []
    parts += [f"{seeds} seed{'s' * (seeds != 1)}"] if seeds else []
    return ", ".join([*parts, *([more] if more else [])])


def detected(low: float, high: float) -> int:
    """1 where an interval lies above zero, -1 below it, 0 where it includes zero."""
    return 1 if low > 0 else -1 if high < 0 else 0


def effect(who: str, what: str, difference: float, low: float, high: float) -> str:
    """A difference as a sentence, in percentage points with its interval.

    >>> effect("grpo", "sampled accuracy", 0.084, 0.075, 0.093)
    'grpo raises sampled accuracy by 8.4 points [7.5, 9.3]'
    >>> effect("dpo", "greedy accuracy", -0.035, -0.066, -0.005)
    'dpo lowers greedy accuracy by 3.5 points [0.5, 6.6]'
    >>> effect("dpo", "greedy accuracy", 0.01, -0.02, 0.04)
    'dpo: no difference detected in greedy accuracy, +1.0 points [-2.0, +4.0]'
    """
    sign = detected(low, high)
    if not sign:
        change = stats.points(difference, low, high).replace(" [", " points [")
        return f"{who}: no difference detected in {what}, {change}"
    ends = sorted(100 * abs(end) for end in (low, high))
    verb = "raises" if sign > 0 else "lowers"
    size = 100 * abs(difference)
    return f"{who} {verb} {what} by {size:.1f} points [{ends[0]:.1f}, {ends[1]:.1f}]"


def share_change(what: str, first: float, last: float, n: int) -> str:
    """How a share of ``n`` prompts changed from a first to a last look, with its interval.

    The two looks are taken as independent, which is too wide where both ask the same prompts.
    Standard error: the root of p(1-p)/n of both, added.

    >>> share_change("held-out accuracy", 0.5, 0.75, 100)
    'held-out accuracy 50 to 75 %: +25.0 points [+12.0, +38.0]'
    >>> share_change("held-out accuracy", 0.5, 0.52, 100)
    'held-out accuracy 50 to 52 %: no difference detected, +2.0 points [-11.9, +15.9]'
    """
    half = stats.Z * sum(p * (1 - p) / n for p in (first, last)) ** 0.5
    low, high = last - first - half, last - first + half
    change = stats.points(last - first, low, high).replace(" [", " points [")
    prefix = "" if detected(low, high) else "no difference detected, "
    return f"{what} {100 * first:.0f} to {100 * last:.0f} %: {prefix}{change}"


def verdicts(rows: Any, reference: str = "") -> str:
    """Arms above, below and not told apart from their reference, as a sentence.

    Args:
        rows: a frame with arm, difference, difference_low, difference_high, one row an arm.
        reference: its name, where all rows have the same.
    """
    against = f" against {reference}" if reference else ""
    if len(rows) == 1:
        row = rows.iloc[0]
        ends = (row["difference_low"], row["difference_high"])
        change = stats.points(row["difference"], *ends).replace(" [", " points [")
        nothing = "" if detected(*ends) else "no difference detected, "
        return f"{row['arm']}{against}: {nothing}{change}"
    signs = [
        detected(*ends)
        for ends in zip(rows["difference_low"], rows["difference_high"], strict=True)
    ]
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        names = [arm for arm, s in zip(rows["arm"], signs, strict=True) if s == sign]
        if names:
            parts.append(f"{word}: {_named(names)}")
    if none := signs.count(0):
        count = "any" if none == len(signs) else none
        parts.append(f"no difference detected for {count} of {len(signs)} arms")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + against


def _named(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMED or len(set(names)) < len(names):
        return f"{len(names)} arms"
    return ", ".join(f"'{name}'" if "," in name else name for name in names)
