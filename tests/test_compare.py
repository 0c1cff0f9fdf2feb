"""Recipes side by side: what is read from reports, and what is said of missing ones."""

import pytest

from trlm_utils.files import CourseError, read_json, write_json
from trlm_utils.runner import command, compare


def rung(stage, decoding, accuracy, seed=0, band="in_distribution"):
    row = {"stage": stage, "decoding": decoding, "accuracy": accuracy, "seed": seed, "band": band}
    return row | {"low": accuracy - 0.1, "high": accuracy + 0.1, "n": 100}


def content(**more):
    ladder = [
        rung(stage, decoding, accuracy)
        for stage, accuracy in (("00_start_here", 0.2), ("06_grpo", 0.7), ("other", 0.1))
        for decoding in ("greedy", "sampled")
    ]
    totals = {"minutes": 10.0, "tokens": 1000.0, "dollars": 0.5, "joules": None}
    totals["trainable_parameters"] = 640
    stages = [{"stage": "06_grpo", "trainable_parameters": 64}]
    base = {"seeds": [0], "about": "a <b>", "result": "06_grpo", "arms": [], "deviations": ["<x>"]}
    return base | {"ladder": ladder, "totals": totals, "stages": stages} | more


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path))
    write_json(tmp_path / "nano" / "report.json", content())
    return tmp_path


def test_gain_and_cost_per_point_by_hand():
    row = compare.summary("nano", content())
    assert row["gained"] == pytest.approx(50)  # points, from 20 to 70 %
    assert row["dollars_per_point"] == pytest.approx(0.01)
    assert row["trainable_parameters"] == 64
    assert row["minutes_per_point"] == pytest.approx(0.2)
    assert (row["from"], row["result"], row["end_greedy"]) == ("00_start_here", "06_grpo", 0.7)


def test_nothing_gained_costs_nothing_per_point():
    worse = [rung("a", "sampled", 0.5), rung("06_grpo", "sampled", 0.4)]
    row = compare.summary("nano", content(ladder=worse))
    assert row["gained"] == pytest.approx(-10)
    assert row["dollars_per_point"] is None
    assert compare.cells(row)[compare.COLUMNS.index("dollars per point")] == "-"
    assert compare.cells(row)[compare.COLUMNS.index("greedy %")] == "-"


def test_means_over_seeds():
    two = [rung("a", "sampled", 0.2), rung("06_grpo", "sampled", 0.4)]
    two += [rung("a", "sampled", 0.4, 1), rung("06_grpo", "sampled", 0.8, 1)]
    row = compare.summary("nano", content(ladder=two, seeds=[0, 1]))
    assert row["gained"] == pytest.approx(30)


def test_the_page_holds_all_recipes_and_names_those_not_run(runs, capsys):
    assert command.main(["compare"]) == 0
    folder = runs / "compare"
    page = (folder / "compare.html").read_text()
    assert "<svg" in page and "&lt;x&gt;" in page and "http" not in page.split("</svg>")[1]
    assert "Not run here: trlm, qwen-rl, tina, tiny-r1, tunix." in page
    assert read_json(folder / "compare.json")["recipes"][0]["recipe"] == "nano"
    assert {p.suffix for p in folder.iterdir()} == {".html", ".json", ".csv", ".svg", ".png"}


def test_a_report_of_another_form_is_named_with_what_to_do(runs, capsys):
    write_json(runs / "tina" / "report.json", {"ladder": []})
    assert command.main(["compare"]) == 2
    said = capsys.readouterr().err
    assert "tina/report.json has no 'about'; write it again" in said and said.count("\n") == 1


def test_without_any_report_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path))
    with pytest.raises(CourseError, match="make course RECIPE"):
        compare.write()
    assert command.main(["compare"]) == 2
