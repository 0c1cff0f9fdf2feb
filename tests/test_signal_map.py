"""The equal-budget map: order, needs, what its table shows."""

import pandas as pd
import pytest

from trlm_utils.evaluation import signal_map
from trlm_utils.runner import recipes


def row(arm, band="in_distribution", decoding="sampled", accuracy=0.5, **others):
    names = {"group": "signal", "arm": arm, "band": band, "form": "chat", "decoding": decoding}
    spread = {"low": accuracy - 0.1, "high": accuracy + 0.1, "checked": accuracy - 0.2}
    return names | {"accuracy": accuracy, "n": 400, "seeds": 3, "seconds": 90.0} | spread | others


def test_arms_stand_in_the_order_of_what_they_have_to_know():
    arms = ("on-policy distillation", "GRPO", "start", "self-distillation")
    rows = signal_map.in_order(pd.DataFrame([row(arm) for arm in arms]))
    assert [*rows["arm"]] == ["start", "self-distillation", "GRPO", "on-policy distillation"]
    assert [*rows["needs"]] == ["start", "nothing", "a checker", "a teacher"]


def test_other_groups_and_the_plain_form_are_left_out():
    table = pd.DataFrame(
        [row("GRPO"), row("GRPO", form="plain"), row("RLOO", group="algorithm")],
    )
    assert [*signal_map.in_order(table)["arm"]] == ["GRPO"]


def test_every_arm_of_the_recipe_has_a_need():
    groups = recipes.load_plan("algorithms").groups
    arms = set(groups[signal_map.GROUP])
    known = {arm for arms in signal_map.NEEDS.values() for arm in arms}
    assert arms == known


def test_the_overview_has_accuracy_checked_and_minutes():
    table = pd.DataFrame([row("GRPO"), row("GRPO", decoding="greedy", accuracy=0.9)])
    (found,) = signal_map.overview(table).to_dict("records")
    assert found == {
        "arm": "GRPO",
        "needs": "a checker",
        "minutes": "1.5",
        "in_distribution, sampled": "50.0 [40.0, 60.0]",
        "in_distribution, greedy": "90.0 [80.0, 100.0]",
        "in_distribution, every step": "30.0",
    }


def test_the_figure_marks_the_start_in_each_band():
    table = pd.DataFrame([row(arm, band) for band in signal_map.BANDS for arm in ("start", "GRPO")])
    figure = signal_map.plot(table)
    lines = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in lines] == pytest.approx([50.0] * 3)
