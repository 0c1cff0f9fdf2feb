"""Figures over numbers of steps: pooled pairs by hand, titles from the table, slides."""

import pandas as pd

from trlm_utils import slide
from trlm_utils.evaluation import step_plots


def rows(arm, checked, decoding="greedy"):
    shared = {"arm": arm, "decoding": decoding, "n": 100, "seeds": 3}
    return [shared | {"steps": steps, "checked": share} for steps, share in checked.items()]


def test_a_pair_is_weighted_by_its_questions():
    table = pd.DataFrame(rows("0", {7: 0.5, 8: 0.2, 2: 1.0}))
    table.loc[table["steps"] == 7, "n"] = 300
    (found,) = step_plots.by_pair(table).to_dict("records")
    # (300 x 0.5 + 100 x 0.2) / 400 = 42.5 %; two steps are in no pair
    assert found == {"arm": "0", "decoding": "greedy", "pair": "7 and 8", "checked": 42.5}


def frontier():
    levels = {3: 1.0, 5: 0.9, 7: 0.6, 9: 0.4}
    last = {3: 1.0, 5: 0.9, 7: 0.7, 9: 0.6}
    table = [*rows("120", last), *rows("0", levels)]
    table += [*rows("120", last, "sampled"), *rows("0", {**levels, 9: 0.2}, "sampled")]
    return pd.DataFrame(table)


def test_the_frontier_goes_by_steps_and_its_title_names_the_longest():
    figure = step_plots.plot_frontier(frontier())
    assert (
        "120 updates of GRPO; problems of 9 and 10 steps: 20 to 60\N{NO-BREAK SPACE}% sampled"
        in (figure.get_suptitle().replace("\n", " "))
    )
    longest = figure.axes[1].get_lines()[3]
    assert list(longest.get_xdata()) == [0, 120] and list(longest.get_ydata()) == [20.0, 60.0]
    assert not slide.problems(figure)


def test_lengths_have_a_line_for_each_arm():
    table = pd.DataFrame([*rows("window", {1: 1.0, 7: 0.6}), *rows("none", {1: 1.0, 7: 0.0})])
    figure = step_plots.plot_lengths(table)
    assert len(figure.axes[0].get_lines()) == 2
    assert "60\N{NO-BREAK SPACE}% (window), 0\N{NO-BREAK SPACE}% (none)" in figure.get_suptitle()
    assert not slide.problems(figure)
