"""Intervals: every accuracy and every difference in the course carries one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    """95 % Wilson interval of a proportion seen in ``n`` independent trials.

    (Wilson 1927.) Unlike "share plus or minus two standard errors" it has a width
    where the share is 0 or 1: 0 of 200 gives [0, 0.019].

    Args:
        share: in [0, 1].
        n: number of trials; may be a fraction (an effective number).
        z: quantile; Student's t where ``n`` was estimated from few seeds.

    Raises:
        ValueError: for a share outside [0, 1] or n <= 0.
    """
    if not 0 <= share <= 1 or n <= 0:
        raise ValueError(f"no interval for share {share} of {n}")
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
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


@dataclass(frozen=True)
class Pooled:
    """A mean over seeds with its 95 % interval.

    Attributes:
        df: degrees of freedom whose t quantile the interval uses: between seeds - 1 (seeds
            are what varies) and questions - 1 (questions are).
    """

    mean: float
    low: float
    high: float
    df: float


def pooled_mean(scores: Sequence[Sequence[float]]) -> Pooled:
    """Mean of scores in [0, 1], with an interval for other seeds and other questions.

    Wilson's interval at the number of trials that would have this variance, which follows
    the skew near 0 and 1, with the t quantile of `weighted_t`. Where all scores agree the
    questions are the trials. Seeds that themselves differ with a strong skew (around 90 %,
    from 60 to 99 %) are the hard case: coverage is then 91 to 92 %.

    Args:
        scores: one row a seed, in each the scores of the same questions, in the same order.

    Raises:
        ValueError: see `crossed_parts`.
    """
    seeds, questions = len(scores), len(scores[0])
    mean, spread, asked = crossed_parts(scores)
    error, quantile, df = weighted_t(spread, asked, seeds, questions)
    if error < 1e-9:
        return Pooled(mean, *wilson(mean, questions, t_quantile(questions - 1)), questions - 1)
    trials = max(mean * (1 - mean) / error**2, 1.0)
    return Pooled(mean, *wilson(mean, trials, quantile), df)


def pooled_difference(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]
) -> Pooled:
    """Mean of after minus before, with an interval for other seeds and other questions.

    Four imagined questions are added for the error that comes from the questions, as in
    `paired_difference`. The won and the lost one change by one over the number of seeds:
    they weigh as much as one answer of one seed, however many seeds there are.

    Args:
        before, after: one row a seed, in each the scores of the same questions in the same
            order.

    Raises:
        ValueError: see `crossed_parts`.
    """
    import numpy as np

    changes = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    mean, spread, _ = crossed_parts(changes)
    step = 1 / len(changes)
    imagined = np.broadcast_to([step, -step, 0.0, 0.0], (len(changes), 4))
    _, _, asked = crossed_parts(np.concatenate([changes, imagined], axis=1))
    error, quantile, df = weighted_t(spread, asked, *changes.shape)
    half = quantile * error
    return Pooled(mean, max(-1.0, mean - half), min(1.0, mean + half), df)


def crossed_parts(scores: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean, and the two parts of its variance: from the seeds, and from the questions.

    All seeds answer the same questions, so seeds and questions are two crossed random
    effects. With the mean squares of a two-way analysis of variance (S of seeds, Q of
    questions, R of the rest, which is in both of them) the variance of the mean over K seeds
    and N questions is ``(S + Q - R) / (K N)`` (Searle, Casella and McCulloch 1992, "Variance
    Components", chapter 4). The parts are ``S / (K N)``, which holds the rest once, and
    ``(Q - R) / (K N)``, not below 0.

    Raises:
        ValueError: for fewer than two seeds or two questions, or rows of unequal length.
    """
    import numpy as np

    if len({len(row) for row in scores}) != 1 or min(len(scores), len(scores[0])) < 2:
        raise ValueError("at least two seeds with the same two questions or more are needed")
    table = np.asarray(scores, dtype=float)
    seeds, questions = table.shape
    mean = table.mean()
    off = table - mean
    of_seeds, of_questions = off.mean(1), off.mean(0)
    rest = off - of_seeds[:, None] - of_questions
    s = questions * (of_seeds @ of_seeds) / (seeds - 1)
    q = seeds * (of_questions @ of_questions) / (questions - 1)
    r = np.vdot(rest, rest) / ((seeds - 1) * (questions - 1))
    return float(mean), float(s / table.size), float(max(0.0, q - r) / table.size)


def weighted_t(
    spread: float, asked: float, seeds: int, questions: float
) -> tuple[float, float, float]:
    """Standard error and t quantile of a mean whose variance has two parts.

    The one formula behind every interval over seeds. The quantile is the mean of Student's t
    with seeds - 1 and with questions - 1 degrees of freedom, each weighted by its part of the
    variance (Cochran 1964, "Approximate significance levels of the Behrens-Fisher test").
    Satterthwaite's degrees of freedom, the usual choice, take a spread that three seeds show
    by chance too small at its word and cover down to 92 %; this covers 94.5 to 97.5 % for
    normal scores, whatever the parts. (tests/test_stats.py simulates answers.)

    Args:
        spread: variance of the mean that comes from the seeds.
        asked: variance of the mean that comes from the questions.
        seeds: number of seeds.
        questions: number of questions; infinity where it is not known.

    Returns:
        The standard error, the 97.5 % quantile, and the degrees of freedom that have it.
    """
    from scipy.special import stdtridf

    total = spread + asked
    if not spread:  # the questions are all that varies
        return math.sqrt(total), t_quantile(questions - 1), questions - 1
    if not asked:
        return math.sqrt(total), t_quantile(seeds - 1), seeds - 1
    quantile = (spread * t_quantile(seeds - 1) + asked * t_quantile(questions - 1)) / total
    return math.sqrt(total), quantile, float(stdtridf(0.975, quantile))


def seeds_interval(
    means: Sequence[float], error: float, questions: float = math.inf
) -> tuple[float, float]:
    """Standard error and t quantile where only a mean for each seed is left.

    `weighted_t` of the spread of the seeds and the error from the questions. What a seed and
    a question have in common is in both, so the interval is wider than `pooled_mean`'s.

    Args:
        means: one for each seed.
        error: standard error of one seed's mean over the questions.
        questions: their number, where it is known.
    """
    spread = standard_error(means) ** 2
    total, quantile, _ = weighted_t(spread, error**2, len(means), questions)
    return total, quantile


def t_quantile(df: float) -> float:
    """97.5 % quantile of Student's t distribution; the normal one for infinite ``df``."""
    from scipy.special import stdtrit

    return Z if math.isinf(df) else float(stdtrit(df, 0.975))


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
