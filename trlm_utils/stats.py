"""Statistics: confidence intervals for accuracies and differences, and pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    """95 % Wilson interval (Wilson 1927) of a proportion observed in ``n`` independent trials.

    Unlike "proportion plus or minus two standard errors" its width is not 0 when the
    proportion is 0 or 1: 0 of 200 gives [0, 0.019].

    Args:
        share: the proportion, in [0, 1].
        n: number of trials; may be fractional (an effective number of trials).
        z: quantile; Student's t where ``n`` was estimated from few seeds.

    Returns:
        ``(low, high)``.

    Raises:
        ValueError: for a share outside [0, 1] or n <= 0.
    """
    if not 0 <= share <= 1 or n <= 0:
        raise ValueError(f"no interval for share {share} of {n}")
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # rounding errors must not leave the share outside its own interval
    low, high = (centre - half) / scale, (centre + half) / scale
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def mean_interval(scores: Sequence[float], samples: int = 1) -> tuple[float, float, float]:
    """Mean of per-question scores in [0, 1] with its 95 % confidence interval.

    Questions are the independent unit. Several samples of one question are not
    independent, so each question counts with the mean of its samples. The interval is
    Wilson's with the effective number of trials p(1-p) / Var(mean). For greedy answers
    (scores 0 or 1) this is Wilson's interval over questions, up to the factor (n-1)/n.

    Args:
        scores: one per question, each the mean of ``samples`` answers.
        samples: answers per question. The effective number of trials is at most
            questions x samples.

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
    """Standard error of the mean of scores (of questions, or of seeds); 0 for a single score.

    lm-eval reports this number. It is 0 where all scores agree; the width of
    `mean_interval` is not.
    """
    n = len(scores)
    if n < 2:
        return 0.0
    mean = sum(scores) / n
    return math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1) / n)


def paired_difference(
    before: Sequence[float], after: Sequence[float]
) -> tuple[float, float, float]:
    """Mean paired difference, after minus before, on the same questions, with its 95 % interval.

    The interval is the mean plus or minus 1.96 standard errors. For the standard error four
    pseudo-observations are added (one question won, one lost, two unchanged), after Agresti
    and Min 2005. Without them the width would be 0 when no answer changes.

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
        df: degrees of freedom of the interval's t quantile: between seeds - 1 (all variance
            comes from the seeds) and questions - 1 (all variance comes from the questions).
    """

    mean: float
    low: float
    high: float
    df: float


def pooled_mean(scores: Sequence[Sequence[float]]) -> Pooled:
    """Mean of scores in [0, 1], with a 95 % interval that holds for new seeds and new questions.

    This is Wilson's interval, which is skewed near 0 and 1 as it should be. Its number of
    trials is the effective one: that of a binomial proportion with this variance. Its
    quantile is that of `weighted_t`. If all scores agree, the number of trials is the number
    of questions. The hard case is a strongly skewed distribution over seeds (around 90 %,
    from 60 to 99 %): coverage is then 91 to 92 %.

    Args:
        scores: one row per seed; each row has the scores of the same questions, in the same
            order.

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
    """Mean of after minus before, with a 95 % interval that holds for new seeds and questions.

    As in `paired_difference`, four pseudo-observations are added to estimate the variance
    that comes from the questions. For every seed their differences are 1 / seeds,
    -1 / seeds, 0 and 0. So the won and the lost one each weigh as much as one answer of one
    seed, whatever the number of seeds.

    Args:
        before, after: one row per seed; each row has the scores of the same questions, in
            the same order.

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
    effects. A two-way analysis of variance gives the mean squares S of seeds, Q of questions
    and R of the residual (which S and Q both contain). The variance of the mean over K seeds
    and N questions is then ``(S + Q - R) / (K N)`` (Searle, Casella and McCulloch 1992,
    "Variance Components", chapter 4). Its parts are ``S / (K N)``, which includes the
    residual once, and ``(Q - R) / (K N)``, set to 0 if negative.

    Returns:
        Mean, the part from the seeds, the part from the questions.

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

    Every interval over seeds uses this formula. The quantile is a weighted mean of Student's
    t quantiles with seeds - 1 and with questions - 1 degrees of freedom; the weights are the
    two parts of the variance (Cochran 1964, "Approximate significance levels of the
    Behrens-Fisher test"). The usual choice, Satterthwaite's degrees of freedom, fails when
    three seeds agree by chance and their estimated variance is too small: coverage falls to
    92 %. Here it is 94.5 to 97.5 % for normal scores, whatever the two parts are.
    (tests/test_stats.py simulates answers.)

    Args:
        spread: variance of the mean that comes from the seeds.
        asked: variance of the mean that comes from the questions.
        seeds: number of seeds.
        questions: number of questions; infinity if it is unknown.

    Returns:
        The standard error, the 97.5 % quantile, and the degrees of freedom of a t
        distribution with this quantile.
    """
    from scipy.special import stdtridf

    total = spread + asked
    if not spread:  # all variance comes from the questions
        return math.sqrt(total), t_quantile(questions - 1), questions - 1
    if not asked:
        return math.sqrt(total), t_quantile(seeds - 1), seeds - 1
    quantile = (spread * t_quantile(seeds - 1) + asked * t_quantile(questions - 1)) / total
    return math.sqrt(total), quantile, float(stdtridf(0.975, quantile))


def seeds_interval(
    means: Sequence[float], error: float, questions: float = math.inf
) -> tuple[float, float]:
    """Standard error and t quantile if only the mean of each seed is known.

    This is `weighted_t` of the variance between the seeds' means and the variance from the
    questions. Both contain the residual, so the interval is wider than that of `pooled_mean`.

    Args:
        means: one mean per seed.
        error: standard error of one seed's mean over the questions.
        questions: number of questions, if it is known.

    Returns:
        The standard error and the 97.5 % quantile.
    """
    spread = standard_error(means) ** 2
    total, quantile, _ = weighted_t(spread, error**2, len(means), questions)
    return total, quantile


def t_quantile(df: float) -> float:
    """97.5 % quantile of Student's t distribution; of the normal one for infinite ``df``."""
    from scipy.special import stdtrit

    return Z if math.isinf(df) else float(stdtrit(df, 0.975))


def pass_at_k(n: int, right: int, k: int) -> float:
    """pass@k: probability that at least one of ``k`` samples of a question is correct.

    The unbiased estimate 1 - C(n - right, k) / C(n, k) of Chen et al. 2021 ("Evaluating
    Large Language Models Trained on Code"), from ``n`` samples of which ``right`` are
    correct.

    Raises:
        ValueError: unless 1 <= k <= n and 0 <= right <= n.
    """
    if not (1 <= k <= n and 0 <= right <= n):
        raise ValueError(f"pass@{k} cannot be told from {right} of {n} samples")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def percent(value: float) -> str:
    """A share in [0, 1] as text: in per cent, with one decimal."""
    return f"{100 * value:.1f}"


def interval(row: dict[str, Any]) -> str:
    """The interval of a row (``low``, ``high``) as text, in per cent: ``[12.3, 45.6]``."""
    return f"[{percent(row['low'])}, {percent(row['high'])}]"


def points(difference: float, low: float, high: float) -> str:
    """A difference of shares with its interval, in percentage points: ``+1.0 [-0.2, +2.2]``."""
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def points_or_none(difference: float, low: float, high: float) -> str:
    """`points`, and the words "no difference detected" where zero lies in the interval."""
    none = ", no difference detected" if low <= 0 <= high else ""
    return points(difference, low, high) + none
