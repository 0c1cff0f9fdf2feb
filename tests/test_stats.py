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


def test_pooled_difference_by_hand():
    """Mean squares as in the report's test, where they are written out."""
    found = stats.pooled_difference([[0.0] * 4] * 2, [[1, 0, 0, 0], [1, 0, 0, 1]])
    error = ((11 / 14 + 1 / 16) / 16) ** 0.5
    assert (found.mean, found.df) == (0.375, 7)
    assert found.mean - found.low == pytest.approx(2.3646 * error, rel=1e-4)


def test_two_seeds_that_differ_have_the_t_quantile_of_one_degree():
    """All questions alike: the seeds' means 0.2 and 0.4 are all there is; t is 12.706."""
    mean, error, df = stats.crossed_error([[0.2] * 10, [0.4] * 10])
    assert (mean, error, df) == (pytest.approx(0.3), pytest.approx(0.1), 1)
    assert stats.t_quantile(1) == pytest.approx(12.7062, rel=1e-5)
    assert stats.t_quantile(2) == pytest.approx(4.30265, rel=1e-5)


def test_scores_without_any_spread_still_have_a_width():
    found = stats.pooled_mean([[1.0] * 50] * 3)
    assert found.high == 1.0 and 0.9 < found.low < 0.95


@pytest.mark.parametrize("table", [[[1.0, 0.0]], [[1.0], [0.0]], [[1.0, 0.0], [1.0]]])
def test_a_table_without_two_seeds_and_questions_is_refused(table):
    with pytest.raises(ValueError, match="at least two seeds"):
        stats.crossed_error(table)


# name -> (standard deviation of the seeds' effects, chances that a question is drawn from)
REGIMES = {
    "questions differ": (0.0, (0.03, 0.97)),
    "chance alone": (0.0, (0.5, 0.5)),
    "seeds differ much": (0.08, (0.3, 0.7)),
    "seeds and questions differ": (0.03, (0.3, 0.7)),
    "nearly all right": (0.02, (0.85, 0.95)),
}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("regime", REGIMES)
def test_a_nominal_95_percent_interval_over_seeds_covers_93_to_97(seeds, regime):
    """Simulated: right answers of 100 questions, each seed better or worse on all of them.

    The margin is the simulation's own: 1,500 trials have a standard error of 0.6 points.
    """
    import numpy as np

    rng = np.random.default_rng(seeds)
    spread, chances = REGIMES[regime]
    wanted, inside, trials = sum(chances) / 2, 0, 1500
    for _ in range(trials):
        question = rng.choice(chances, size=(1, 100))
        chance = (question + rng.normal(0, spread, (seeds, 1))).clip(0, 1)
        mean, error, df = stats.crossed_error((rng.random((seeds, 100)) < chance).astype(float))
        inside += abs(mean - wanted) <= stats.t_quantile(df) * error
    assert 0.93 - 0.012 <= inside / trials <= 0.97 + 0.012


def test_an_interval_from_the_means_alone_is_the_wider():
    rng = random.Random(1)
    table = [[float(rng.random() < 0.5) for _ in range(100)] for _ in range(3)]
    _, pooled, _ = stats.crossed_error(table)
    means = [sum(row) / 100 for row in table]
    error, quantile = stats.seeds_interval(means, stats.standard_error(table[0]))
    assert error > pooled and quantile > stats.Z
