"""Recorded tables: intervals computed again from what is left of the runs."""

import pandas as pd
import pytest

from tools import recompute
from trlm_utils import stats

KEY = {"band": "b", "decoding": "greedy"}
RISE = KEY | {"from": "x", "to": "y", "difference": 0.2, "seeds": 2}


def ladder(before, after, n=101):
    return pd.DataFrame(
        [
            KEY | {"stage": stage, "seed": seed, "accuracy": accuracy, "n": n}
            for stage, found in (("x", before), ("y", after))
            for seed, accuracy in enumerate(found)
        ]
    )


def test_the_questions_part_is_what_the_seeds_leave_of_the_recorded_half_width():
    """Differences 0.1 and 0.3: a seeds' error of 0.1; with 0.1 of the questions, root 0.02."""
    half = stats.Z * 0.02**0.5
    table = pd.DataFrame([RISE | {"low": 0.2 - half, "high": 0.2 + half}])
    (row,) = recompute.rises(table, ladder([0.1, 0.1], [0.2, 0.4])).to_dict("records")
    quantile = (12.7062 + 1.98397) / 2  # t of 1 and of 100, both parts alike
    assert row["low"] == pytest.approx(max(-1, 0.2 - quantile * 0.02**0.5), rel=1e-4)
    assert row["high"] == 1.0
    assert stats.t_quantile(row["df"]) == pytest.approx(quantile, rel=1e-4)


def test_seeds_that_agree_leave_the_questions_error_as_it_was():
    half = stats.Z * 0.05
    table = pd.DataFrame([RISE | {"low": 0.2 - half, "high": 0.2 + half}])
    (row,) = recompute.rises(table, ladder([0.1, 0.1], [0.3, 0.3])).to_dict("records")
    assert row["high"] - 0.2 == pytest.approx(1.98397 * 0.05, rel=1e-4)
    assert row["df"] == pytest.approx(100)


def test_arms_are_widened_by_the_most_that_their_seeds_can_need():
    reference = {"accuracy": 0.5, "low": 0.4, "high": 0.95, "seeds": 3}
    other = reference | {"difference": 0.1, "difference_low": 0.05, "difference_high": 0.15}
    first, second = recompute.arms(pd.DataFrame([reference, other])).to_dict("records")
    times = 4.302653 / stats.Z  # t of two degrees of freedom
    assert first["low"] == pytest.approx(0.5 - times * 0.1)
    assert first["high"] == 1.0 and first["df"] == 2
    assert pd.isna(first["difference_low"]) and pd.isna(first["difference_df"])
    assert second["difference_low"] == pytest.approx(0.1 - times * 0.05)


def test_the_committed_tables_are_computed_again_once(tmp_path):
    for name in recompute.DRAWN:
        text = (recompute.FIGURES / f"{name}.csv").read_text()
        (tmp_path / f"{name}.csv").write_text(text)
    recompute.recompute(tmp_path)
    once = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    assert recompute.recompute(tmp_path) == []
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == once
