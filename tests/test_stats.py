"""Intervals: hand-computed values, edges, and coverage."""

import math
import random

import pytest

from trlm_utils import stats


def test_wilson_by_hand():
    # p = 1/2, n = 100: centre 1/2, half width z sqrt(.25/n + z^2/4n^2) / (1 + z^2/n)
    z = stats.Z
    half = z * math.sqrt(0.0025 + z * z / 40000) / (1 + z * z / 100)
    assert stats.wilson(0.5, 100) == pytest.approx((0.5 - half, 0.5 + half))


def test_wilson_has_a_width_at_zero_and_one():
    low, high = stats.wilson(0.0, 200)
    assert low == 0 and high == pytest.approx(stats.Z**2 / (200 + stats.Z**2))
    assert stats.wilson(1.0, 200)[0] == pytest.approx(1 - high)


def test_repeated_samples_of_one_question_add_no_certainty():
    questions = [0.0, 1.0] * 50  # all eight samples of a question agree
    mean, low, high = stats.mean_interval(questions)
    assert mean == 0.5
    assert (high - low) == pytest.approx(2 * (0.5 - stats.wilson(0.5, 99)[0]), rel=1e-6)


def test_equal_scores_give_no_more_trials_than_there_were():
    _, low, high = stats.mean_interval([0.5] * 9 + [0.625], samples=8)
    assert high - low >= 2 * (0.5125 - stats.wilson(0.5125, 80)[0]) * 0.99


def test_samples_that_vary_within_questions_narrow_the_interval():
    spread = stats.mean_interval([0.0, 1.0] * 50)
    alike = stats.mean_interval([0.4, 0.6] * 50, samples=5)
    assert alike[2] - alike[1] < spread[2] - spread[1]


def test_coverage_of_the_interval_is_about_95_percent():
    rng, inside, trials = random.Random(0), 0, 400
    for _ in range(trials):
        # a question's own chance, then eight samples of it; overall chance 0.3
        chances = [rng.choice([0.0, 0.1, 0.8]) for _ in range(100)]
        scores = [sum(rng.random() < c for _ in range(8)) / 8 for c in chances]
        _, low, high = stats.mean_interval(scores, samples=8)
        inside += low <= 0.3 <= high
    assert 0.92 <= inside / trials <= 0.98


def test_paired_difference_by_hand():
    # changes 0, 1, 1, 0 and the imagined 1, -1, 0, 0: mean 1/4, squares add up to
    # 4 - 8/16 = 3.5, so the standard error is sqrt(3.5 / 7 / 8) = 1/4
    mean, low, high = stats.paired_difference([1, 0, 0, 0], [1, 1, 1, 0])
    assert mean == 0.5
    assert mean - low == pytest.approx(stats.Z / 4)
    assert high == pytest.approx(0.5 + stats.Z / 4)


def test_answers_that_never_change_still_leave_doubt():
    _, low, high = stats.paired_difference([1, 0] * 50, [1, 0] * 50)
    assert low < 0 < high
    assert stats.paired_difference([0, 0], [1, 1])[2] == 1.0  # not above the possible


def test_paired_interval_covers_rare_changes():
    """One question in fifty is won, none is lost: the hard case for this interval."""
    rng, inside, trials = random.Random(1), 0, 400
    for _ in range(trials):
        after = [float(rng.random() < 0.02) for _ in range(100)]
        _, low, high = stats.paired_difference([0.0] * 100, after)
        inside += low <= 0.02 <= high
    assert inside / trials >= 0.93


@pytest.mark.parametrize(
    ("n", "right", "k", "expected"),
    [(4, 1, 1, 1 / 4), (4, 1, 2, 1 / 2), (4, 1, 4, 1.0), (4, 2, 2, 5 / 6), (4, 0, 4, 0.0)],
)
def test_pass_at_k_by_counting_subsets(n, right, k, expected):
    """Of the C(4, 2) = 6 pairs, 3 hold a given sample and 5 hold one of two."""
    assert stats.pass_at_k(n, right, k) == pytest.approx(expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.pass_at_k(4, 5, 1),
        lambda: stats.pass_at_k(4, 1, 5),
        lambda: stats.wilson(1.2, 10),
        lambda: stats.wilson(0.5, 0),
        lambda: stats.mean_interval([]),
        lambda: stats.paired_difference([1], [1]),
        lambda: stats.paired_difference([1, 0], [1]),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(ValueError):
        call()


def test_parts_of_the_variance_by_hand():
    """Rows 1 0 0 0 and 1 0 0 1: means 1/4 and 1/2 of seeds; 1, 0, 0, 1/2 of questions.

    S = 4 (2 / 64) / 1 = 1/8; Q = 2 (11 / 16) / 3 = 11/24; of the rest each of the first three
    questions holds 1/8 twice, the last 3/8 twice: R = 2 (3 + 9) / 64 / 3 = 1/8.
    """
    mean, spread, asked = stats.crossed_parts([[1, 0, 0, 0], [1, 0, 0, 1]])
    assert (mean, spread) == (0.375, pytest.approx(1 / 8 / 8))
    assert asked == pytest.approx((11 / 24 - 1 / 8) / 8)


def test_pooled_difference_by_hand():
    """A tenth of the table above, with 1/2 -1/2 0 0 in both rows for the questions' part.

    Of eight questions: means over the seeds 0.1, 0, 0, 0.05, 0.5, -0.5, 0, 0, mean 0.01875,
    squares 0.5125; means of seeds 0.0125 apart, so in the rest seven questions hold 0.00625
    twice, and the fourth, on which the seeds are 0.1 apart, 0.04375.
    """
    found = stats.pooled_difference([[0.0] * 4] * 2, [[0.1, 0, 0, 0], [0.1, 0, 0, 0.1]])
    spread = 1 / 64 / 100
    rest = 2 * (7 * 0.00625**2 + 0.04375**2) / 7
    asked = (2 * (0.5125 - 8 * 0.01875**2) / 7 - rest) / 16
    quantile = (spread * 12.7062 + asked * 3.18245) / (spread + asked)  # t of 1 and of 3
    half = quantile * (spread + asked) ** 0.5
    assert found.mean == pytest.approx(0.0375)
    assert (found.low, found.high) == (
        pytest.approx(0.0375 - half, rel=1e-5),
        pytest.approx(0.0375 + half, rel=1e-5),
    )
    assert stats.t_quantile(found.df) == pytest.approx(quantile, rel=1e-5)


def test_student_s_t_is_the_table_s():
    for df, quantile in ((1, 12.7062), (2, 4.30265), (4, 2.77645), (math.inf, stats.Z)):
        assert stats.t_quantile(df) == pytest.approx(quantile, rel=1e-5)


def test_the_quantile_is_that_of_the_part_that_varies():
    assert stats.weighted_t(0.04, 0.0, 3, 100) == (0.2, stats.t_quantile(2), 2)
    assert stats.weighted_t(0.0, 0.04, 3, 100) == (0.2, stats.t_quantile(99), 99)
    error, quantile, df = stats.weighted_t(0.01, 0.03, 3, math.inf)
    assert (error, quantile) == (0.2, pytest.approx((4.30265 + 3 * stats.Z) / 4, rel=1e-5))
    assert stats.t_quantile(df) == pytest.approx(quantile)


def test_scores_without_any_spread_still_have_a_width():
    found = stats.pooled_mean([[1.0] * 50] * 3)
    t = stats.t_quantile(49)
    assert (found.high, found.low) == (1.0, pytest.approx(50 / (50 + t * t)))
    found = stats.pooled_difference([[1.0] * 50] * 3, [[1.0] * 50] * 3)
    assert found.low < 0 < found.high


@pytest.mark.parametrize("table", [[], [[1.0, 0.0]], [[1.0], [0.0]], [[1.0, 0.0], [1.0]]])
def test_a_table_without_two_seeds_and_questions_is_refused(table):
    with pytest.raises(ValueError, match="at least two seeds"):
        stats.crossed_parts(table)


# Standard deviations, in logits: of questions, of seeds, of a seed on a question.
REGIMES = {
    "questions differ": (3.0, 0.02, 0.0),
    "seeds differ": (0.2, 0.5, 0.2),
    "both differ": (2.0, 0.5, 0.5),
}
TRIALS = 600


def accuracy(logit, deviations):
    """Mean chance of a right answer where its logit is normal with these deviations."""
    import numpy as np

    steps = np.linspace(-8, 8, 801)
    weights = np.exp(-(steps**2) / 2)
    chances = 1 / (1 + np.exp(-logit - math.hypot(*deviations) * steps))
    return (weights @ chances) / weights.sum()


def logit_of(wanted, deviations):
    from scipy.optimize import brentq

    return brentq(lambda logit: accuracy(logit, deviations) - wanted, -30, 30)


def answers_of(rng, logit, deviations, questions, seeds):
    """Right and wrong answers, trials x seeds x questions; ``questions`` are shared."""
    import numpy as np

    _, of_seeds, of_both = deviations
    shape = (TRIALS, seeds, questions.shape[2])
    logits = logit + deviations[0] * questions + of_seeds * rng.normal(size=(TRIALS, seeds, 1))
    logits = logits + of_both * rng.normal(size=shape)
    return (rng.random(shape) < 1 / (1 + np.exp(-logits))).astype(float)


def covered(intervals, wanted):
    return sum(found.low <= wanted <= found.high for found in intervals) / TRIALS


# 93 to 97 %, and twice the standard error of 600 trials at 95 %: 1.8 points.
LOWEST, HIGHEST = 0.93 - 0.018, 0.97 + 0.018


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("questions", [40, 400])
@pytest.mark.parametrize("wanted", [0.5, 0.9])
@pytest.mark.parametrize("regime", REGIMES)
def test_intervals_over_seeds_cover(regime, wanted, questions, seeds):
    """For means, and for differences to answers of the same seeds' models, 15 points below."""
    import numpy as np

    rng, deviations = np.random.default_rng(1), REGIMES[regime]
    asked = rng.normal(size=(TRIALS, 1, questions))
    after, before = (
        answers_of(rng, logit_of(share, deviations), deviations, asked, seeds)
        for share in (wanted, wanted - 0.15)
    )
    means = covered(map(stats.pooled_mean, after), wanted)
    changes = covered(map(stats.pooled_difference, before, after), 0.15)
    assert LOWEST <= means <= HIGHEST and LOWEST <= changes <= HIGHEST, (means, changes)


def test_an_interval_from_the_means_alone_is_the_wider():
    rng = random.Random(1)
    table = [[float(rng.random() < 0.5) for _ in range(100)] for _ in range(3)]
    found = stats.pooled_mean(table)
    means = [sum(row) / 100 for row in table]
    error, quantile = stats.seeds_interval(means, stats.standard_error(table[0]), 100)
    assert error * quantile > (found.high - found.low) / 2


def test_one_seed_alone_has_the_error_of_its_questions():
    assert stats.seeds_interval([0.5], 0.1) == (pytest.approx(0.1), stats.Z)
