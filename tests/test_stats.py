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


def test_samples_that_vary_within_questions_narrow_the_interval():
    spread = stats.mean_interval([0.0, 1.0] * 50)
    alike = stats.mean_interval([0.4, 0.6] * 50)
    assert alike[2] - alike[1] < spread[2] - spread[1]


def test_coverage_of_the_interval_is_about_95_percent():
    rng, inside, trials = random.Random(0), 0, 400
    for _ in range(trials):
        # a question's own chance, then eight samples of it; overall chance 0.3
        chances = [rng.choice([0.0, 0.1, 0.8]) for _ in range(100)]
        scores = [sum(rng.random() < c for _ in range(8)) / 8 for c in chances]
        _, low, high = stats.mean_interval(scores)
        inside += low <= 0.3 <= high
    assert 0.92 <= inside / trials <= 0.98


def test_paired_difference_by_hand():
    # changes 0, 1, 1, 0: mean 1/2, variance 1/3, standard error sqrt(1/12)
    mean, low, high = stats.paired_difference([1, 0, 0, 0], [1, 1, 1, 0])
    assert mean == 0.5
    assert high - mean == pytest.approx(stats.Z * math.sqrt(1 / 12)) == mean - low


@pytest.mark.parametrize(
    "call",
    [
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
