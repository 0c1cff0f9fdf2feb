"""Curves that move while a training runs: what they take over, draw and say."""

from types import SimpleNamespace

import pytest

from trlm_utils import slide
from trlm_utils.training import live

LOG = [
    {"step": 0, "held_out_accuracy": 0.25},
    {"step": 1, "reward": 0.5, "loss": 0.1},
    {"step": 2, "reward": 0.75, "loss": 0.1},
    {"step": 2, "held_out_accuracy": 0.5},
    {"step": 2, "train_runtime": 3.0},
]
PNG = b"\x89PNG"


def curves_with(*runs, steps=2):
    """Curves after finished runs, and the pictures that they showed."""
    shown = []
    curves = live.Curves(shown.append, steps, 64)
    for label, log in runs:
        curves.follow(label).on_train_end(None, SimpleNamespace(log_history=log), None)
    return curves, shown


def points(axis):
    """Label -> points of the lines of a panel."""
    return {line.get_label(): [*map(tuple, line.get_xydata())] for line in axis.get_lines()}


def test_paid_and_wanted_stand_in_panels_of_their_own():
    curves, shown = curves_with(("the mix", LOG))
    paid, wanted = curves.figure().axes
    assert points(paid) == {"the mix": [(1, 0.5), (2, 0.75)]}
    assert points(wanted) == {"the mix": [(0, 0.25), (2, 0.5)]}
    assert len(shown) == 1 and shown[0].startswith(PNG)


def test_the_title_says_what_the_last_run_did_and_what_it_stands_on():
    curves, _ = curves_with(("first", LOG), ("second", LOG[:1]))
    assert curves.message() == "second: held-out accuracy 0.25 to 0.25"
    curves.follow("third")
    assert curves.message() == "third: before the first step"
    texts = [text.get_text() for text in curves.figure().texts]
    assert "one training each, 64 questions" in texts


def test_a_run_with_the_same_label_takes_the_place_of_the_earlier_one_and_is_the_last():
    curves, _ = curves_with(("a", LOG), ("b", LOG), ("a", LOG[:1]))
    assert list(curves.runs) == ["b", "a"] and curves.runs["a"] == LOG[:1]


def test_the_table_has_a_row_for_each_point_and_draws_the_same_curves():
    from tools import figures

    curves, _ = curves_with(("a", LOG), ("b", LOG[:2]))
    table = curves.table()
    assert table["run"].to_list() == ["a"] * 4 + ["b"] * 2
    assert table["held_out_accuracy"].dropna().to_list() == [0.25, 0.5, 0.25]
    ((_, again, _),) = figures.live_curves("live_curves", table)
    for before, after in zip(curves.figure().axes, again.axes, strict=True):
        assert points(before) == points(after)


def test_every_step_is_taken_over_and_few_are_drawn(monkeypatch):
    clock = iter([10.0, 10.0, 10.1, 11.0, 11.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    shown = []
    curves = live.Curves(shown.append, 3, 64)
    follow = curves.follow("a")
    for end in (2, 3, 4):  # at 10.0 s, 10.1 s and 11.0 s
        follow.on_step_end(None, SimpleNamespace(log_history=LOG[:end]), None)
    assert len(shown) == 2 and curves.runs["a"] == LOG[:4]


@pytest.mark.parametrize("number", [1, 4])
def test_the_picture_fits_a_slide(number):
    curves, _ = curves_with(*((f"accuracy 1, brevity 0.{i}", LOG) for i in range(number)))
    assert slide.problems(curves.figure()) == []


def test_the_sliders_are_the_weights_and_the_button_trains_with_them():
    asked = []

    def train(weights, follow):
        asked.append(weights)
        follow.on_train_end(None, SimpleNamespace(log_history=LOG), None)

    curves, before = curves_with()
    bench = live.Bench(train, {"accuracy": 1.0, "brevity": 0.0, "strong": -5.0}, curves)
    assert bench.sliders["strong"].min == -5.0
    bench.sliders["accuracy"].value, bench.sliders["strong"].value = -1.0, 0.0
    bench.button.click()
    assert asked == [{"accuracy": -1.0, "brevity": 0.0, "strong": 0.0}]
    assert list(curves.runs) == ["accuracy -1"]  # a weight of 0 has no effect
    assert bytes(bench.picture.value).startswith(PNG) and not before
    assert bench.message.value.startswith("done in") and not bench.button.disabled


def test_an_error_is_told_beside_the_button():
    def train(weights, follow):
        raise ValueError("no reward has a weight")

    curves, _ = curves_with()
    bench = live.Bench(train, {"accuracy": 0.0}, curves)
    bench.button.click()
    assert bench.message.value == "ValueError: no reward has a weight"
    assert not bench.button.disabled
