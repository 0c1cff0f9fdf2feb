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
