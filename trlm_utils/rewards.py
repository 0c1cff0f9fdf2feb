"""Rewards with TRL's signature: completions in, one float (or None) each out.

Every function takes plain strings or conversational completions, and the columns of
the data set as keyword arguments. ``None`` means "does not apply to this row"; TRL
leaves such rows out of that reward.

    >>> accuracy(["<think> 2 + 2: 4.</think> The answer is 4."], answer=["4"])
    [1.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from trlm_utils import answers

Completions = Sequence[str] | Sequence[list[dict[str, str]]]
Reward = Callable[..., list[float | None]]


def texts_of(completions: Completions) -> list[str]:
    """The reply texts, whether completions are strings or message lists."""
    return [c if isinstance(c, str) else c[-1]["content"] or "" for c in completions]


def accuracy(completions: Completions, answer: Sequence[str], **_: Any) -> list[float | None]:
    """1.0 when the text after the thought states the gold answer, else 0.0.

    None where the gold answer is empty or cannot be read. Differs from TRL's
    ``accuracy_reward``, which grades the whole completion, thought included, and
    accepts only boxed or anchored answers.
    """
    return [
        None if (verdict := answers.grade(text, gold)) is None else float(verdict)
        for text, gold in zip(texts_of(completions), answer, strict=True)
    ]


def think_format(completions: Completions, **_: Any) -> list[float]:
    """1.0 for exactly one non-empty thought followed by a non-empty answer, else 0.0.

    Differs from TRL's ``think_format_reward``, which accepts an empty thought and a
    second ``</think>``.
    """
    return [float(answers.parse(text).well_formed) for text in texts_of(completions)]


def repetition(completions: Completions, **_: Any) -> list[float]:
    """Minus the share of sentences in the thought that were said before, in [-1, 0].

    Sentence level, because in small worlds token n-grams repeat for good reasons
    ("12 + 5" occurs in two steps).
    """
    scores = []
    for text in texts_of(completions):
        thought = answers.parse(text).thought or ""
        sentences = [s.strip() for s in thought.split(".") if s.strip()]
        repeated = len(sentences) - len(set(sentences))
        scores.append(-repeated / len(sentences) if sentences else 0.0)
    return scores


def brevity(completions: Completions, **_: Any) -> list[float]:
    """Minus the number of words divided by 100, at least -1: a length penalty."""
    return [-min(1.0, len(text.split()) / 100) for text in texts_of(completions)]


REWARDS: dict[str, Reward] = {
    "accuracy": accuracy,
    "think_format": think_format,
    "repetition": repetition,
    "brevity": brevity,
}


def choose(weights: dict[str, float]) -> tuple[list[Reward], list[float]]:
    """Reward functions and weights for a mix, in a form TRL takes.

    Raises:
        ValueError: for an unknown name, a weight that is no finite number, or no
            reward at all.
    """
    unknown = sorted(set(weights) - set(REWARDS))
    if unknown:
        raise ValueError(f"unknown reward {unknown}; known: {', '.join(REWARDS)}")
    if not weights:
        raise ValueError("no reward given")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ValueError(f"weight of {name} is {weight!r}, not a number")
        if not math.isfinite(weight):
            raise ValueError(f"weight of {name} is {weight}")
    return [REWARDS[name] for name in weights], [float(w) for w in weights.values()]


def score(
    weights: dict[str, float], completions: Completions, **columns: Any
) -> list[dict[str, float]]:
    """Each part and the weighted total, per completion (parts that are None count 0)."""
    functions, values = choose(weights)
    rows: list[dict[str, float]] = [{} for _ in completions]
    for function, weight in zip(functions, values, strict=True):
        name = function.__name__
        parts = function(completions=completions, **columns)
        for row, part in zip(rows, parts, strict=True):
            row[name] = 0.0 if part is None else float(part)
            row["total"] = row.get("total", 0.0) + weight * row[name]
    return rows


def advantages(rewards: Sequence[float], scale: bool = True) -> list[float]:
    """GRPO's advantages of one group: reward minus group mean, over the group's spread.

    ``A_i = (r_i - mean(r)) / (std(r) + 1e-4)`` with the unbiased standard deviation
    (Shao et al. 2024, DeepSeekMath, section 4.1.1; constants as in TRL). Without
    ``scale`` the division is left out (Liu et al. 2025, Dr. GRPO).

    Raises:
        ValueError: for a group of fewer than two rewards.
    """
    n = len(rewards)
    if n < 2:
        raise ValueError("a group needs at least two rewards")
    mean = sum(rewards) / n
    centred = [reward - mean for reward in rewards]
    if not scale:
        return centred
    spread = math.sqrt(sum(c * c for c in centred) / (n - 1))
    return [c / (spread + 1e-4) for c in centred]
