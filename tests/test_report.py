"""The report: schema, near-zero statements, pooling, self-contained page."""

import pytest

from trlm_utils import recipes, report
from trlm_utils.stage import read_json, write_json, write_rows

LADDER_KEYS = {
    "stage",
    "seed",
    "band",
    "decoding",
    "accuracy",
    "low",
    "high",
    "n",
    "truncated",
}


def ladder_row(stage, accuracy, low, high, seed=0):
    row = {"stage": stage, "seed": seed, "band": "in_distribution", "decoding": "sampled"}
    row |= {"accuracy": accuracy, "low": low, "high": high, "n": 200}
    return row | {"truncated": 0.1, "well_formed": 0.9, "tokens": 30.0}


def leave(folder, stage, seed, ladder, comparisons, status="finished"):
    place = folder / stage
    write_json(place / "metrics.json", {"headline": "<b>fine</b>", "tokens": 5})
    manifest = {"status": status, "wall_seconds": 2.0, "peak_rss_mb": 3.0}
    write_json(place / "manifest.json", manifest)
    write_rows(place / "data" / "ladder.jsonl", ladder)
    write_rows(place / "data" / "comparisons.jsonl", comparisons)


def comparison(difference, low, high):
    row = {"from": "a", "to": "b", "band": "in_distribution", "decoding": "sampled"}
    return row | {"difference": difference, "low": low, "high": high}


@pytest.fixture
def run(tmp_path):
    for seed, folder in ((0, tmp_path), (1, tmp_path / "seed-1")):
        ladder = [ladder_row("04_dpo", 0.5, 0.4, 0.6, seed)]
        ladder.append(ladder_row("06_grpo", 0.005, 0.0, 0.02, seed))
        found = [comparison(0.1 + 0.2 * seed, 0.0 + 0.2 * seed, 0.2 + 0.2 * seed)]
        leave(folder, "07_evaluation", seed, ladder, found)
    return tmp_path


def test_json_follows_the_schema(run):
    content = read_json(report.write(recipes.load_plan("nano"), run) / "report.json")
    assert {
        "recipe",
        "scale",
        "seeds",
        "environment",
        "stages",
        "ladder",
        "comparisons",
    } <= (content.keys())
    assert content["seeds"] == [0, 1]
    assert all(LADDER_KEYS <= row.keys() for row in content["ladder"])
    (stage, _) = content["stages"]
    assert {"stage", "wall_seconds", "peak_rss_mb", "tokens", "metrics"} <= stage.keys()


def test_differences_are_pooled_over_seeds(run):
    (row,) = report.collect(recipes.load_plan("nano"), run)["comparisons"]
    assert row["difference"] == pytest.approx(0.2)
    assert row["seeds"] == 2
    # seeds at 0.1 and 0.3: variance of the mean 0.02 / 2 = 0.01, more than within seeds
    assert row["high"] - row["difference"] == pytest.approx(report.stats.Z * 0.1)


def test_accuracy_near_zero_is_said_plainly(run):
    content = report.collect(recipes.load_plan("nano"), run)
    lines = report.plain_statements(content)
    assert len(lines) == 2
    assert "near zero: 0.5 % [0.0, 2.0] on 200 questions" in lines[0]


def test_no_difference_is_called_so():
    assert "no difference detected (+1.0 points [-1.0, 3.0])" in report.verdict(
        comparison(0.01, -0.01, 0.03)
    )
    assert "detected" not in report.verdict(comparison(0.1, 0.05, 0.15))


def test_page_is_self_contained_and_escaped(run):
    report.write(recipes.load_plan("nano"), run)
    page = (run / "report.html").read_text()
    assert "&lt;b&gt;fine&lt;/b&gt;" in page
    assert "<svg" in page and "src=" not in page and "@import" not in page


def test_unfinished_stages_are_left_out(tmp_path):
    leave(tmp_path, "07_evaluation", 0, [], [], status="running")
    content = report.collect(recipes.load_plan("nano"), tmp_path)
    assert content["stages"] == []
    assert report.plain_statements(content) == ["No stage was evaluated."]
