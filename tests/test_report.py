"""The report: schema, near-zero statements, pooling, self-contained page."""

import pytest

from trlm_utils import stats
from trlm_utils.files import read_json, read_rows, write_json, write_rows
from trlm_utils.runner import pages, recipes, report, report_texts

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
    row = {"from": "04_dpo", "to": "06_grpo", "band": "in_distribution", "decoding": "sampled"}
    return row | {"difference": difference, "low": low, "high": high}


def records(scores):
    shared = {"band": "in_distribution", "decoding": "sampled"}
    return [{"id": f"q{i}", "accuracy": a, **shared} for i, a in enumerate(scores)]


BEFORE = {0: [0.0, 0.0, 1.0, 0.0], 1: [0.0, 1.0, 1.0, 0.0]}
AFTER = {0: [1.0, 0.0, 1.0, 0.0], 1: [1.0, 1.0, 1.0, 1.0]}


@pytest.fixture
def run(tmp_path):
    for seed, folder in ((0, tmp_path), (1, tmp_path / "seed-1")):
        ladder = [ladder_row("04_dpo", 0.5, 0.4, 0.6, seed)]
        ladder.append(ladder_row("06_grpo", 0.005, 0.0, 0.02, seed))
        found = [comparison(0.25 + 0.25 * seed, 0.0, 1.0)]
        leave(folder, "07_evaluation", seed, ladder, found)
        for stage, scores in (("04_dpo", BEFORE), ("06_grpo", AFTER)):
            place = folder / "07_evaluation" / "data" / f"records_{stage}.jsonl"
            write_rows(place, records(scores[seed]))
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
    """Question by question (`stats.pooled_difference`), not by the seeds' own intervals."""
    (row,) = report.collect(recipes.load_plan("nano"), run)["comparisons"]
    found = stats.pooled_difference(list(BEFORE.values()), list(AFTER.values()))
    assert (row["difference"], row["seeds"], row["df"]) == (0.375, 2, found.df)
    assert (row["low"], row["high"]) == (found.low, found.high)


def test_seeds_that_were_asked_other_questions_are_still_pooled(run):
    """Then the seeds' own differences, 1/4 and 1/2, are all there is; t of 1 is 12.7."""
    for path in (run / "seed-1" / "07_evaluation" / "data").glob("records_*.jsonl"):
        write_rows(path, [r | {"id": "other " + r["id"]} for r in read_rows(path)])
    (row,) = report.collect(recipes.load_plan("nano"), run)["comparisons"]
    assert (row["difference"], row["seeds"], row["df"]) == (0.375, 2, 1)
    assert (row["low"], row["high"]) == (-1.0, 1.0)  # 0.375 less and more 12.7 x 0.125


def test_the_ladder_has_the_interval_over_all_seeds(run):
    rows = report.collect(recipes.load_plan("nano"), run)["ladder"]
    found = stats.pooled_mean(list(BEFORE.values()))
    for row in (row for row in rows if row["stage"] == "04_dpo"):
        assert (row["pooled_accuracy"], row["pooled_df"]) == (found.mean, found.df)
        assert (row["pooled_low"], row["pooled_high"]) == (found.low, found.high)


@pytest.mark.parametrize("folder", ["", "seed-1"])
def test_questions_that_one_seed_alone_was_asked_have_its_own_interval(run, folder):
    """Whichever seed it is: another BANDS in one of them must not stop the report."""
    data = run / folder / "07_evaluation" / "data"
    sides = {"04_dpo": [0.0, 0.0, 0.0, 1.0], "06_grpo": [1.0, 1.0, 0.0, 1.0]}
    for stage, scores in sides.items():
        path = data / f"records_{stage}.jsonl"
        extra = [r | {"band": "longer", "id": r["id"] + " longer"} for r in records(scores)]
        write_rows(path, [*read_rows(path), *extra])
    seen = read_rows(data / "comparisons.jsonl")
    seen.append(comparison(0.5, 0.0, 1.0) | {"band": "longer"})
    write_rows(data / "comparisons.jsonl", seen)
    found = report.collect(recipes.load_plan("nano"), run)["comparisons"]
    assert [(row["band"], row["seeds"]) for row in found] == [("in_distribution", 2), ("longer", 1)]
    assert [found[1][name] for name in ("difference", "low", "high")] == [0.5, 0.0, 1.0]


def test_every_pair_of_stages_is_compared(run):
    for seed, folder in ((0, run), (1, run / "seed-1")):
        place = folder / "07_evaluation" / "data"
        rows = [ladder_row(s, 0.5, 0.4, 0.6, seed) for s in ("first", "04_dpo", "06_grpo")]
        write_rows(place / "ladder.jsonl", rows)
        write_rows(place / "records_first.jsonl", records([0.0] * 4))
    content = report.collect(recipes.load_plan("nano"), run)
    found = {(r["from"], r["to"]): r["difference"] for r in content["pairs"]}
    # after: seed 0 half right, seed 1 all right
    assert found == {
        ("first", "04_dpo"): pytest.approx(0.375),
        ("first", "06_grpo"): 0.75,
        ("04_dpo", "06_grpo"): pytest.approx(0.375),
    }
    assert "first to 06_grpo" in pages.report_markdown(content)


def test_share_of_start_up_is_told(run):
    for seed in ("", "seed-1"):
        place = run / seed / "07_evaluation" / "manifest.json"
        write_json(place, read_json(place) | {"wall_seconds": 60.0, "startup_seconds": 15.0})
    line = report_texts.time_line(report.collect(recipes.load_plan("nano"), run))
    time, cost = line.split(" One seed: ")
    assert time == "All stages: 2.0 minutes for 2 seeds; 25% of it starting kernels and importing."
    assert cost.startswith("$0.002 at $0.10 an hour")  # a minute: a sixtieth of ten cents


def test_accuracy_near_zero_is_said_plainly(run):
    content = report.collect(recipes.load_plan("nano"), run)
    lines = report_texts.plain_statements(content)
    assert len(lines) == 2
    assert "near zero: 0.5 % [0.0, 2.0] on 200 questions" in lines[0]


def test_no_difference_is_called_so():
    assert "no difference detected (+1.0 points [-1.0, 3.0])" in report_texts.verdict(
        comparison(0.01, -0.01, 0.03)
    )
    assert "detected" not in report_texts.verdict(comparison(0.1, 0.05, 0.15))


def test_page_is_self_contained_and_escaped(run):
    report.write(recipes.load_plan("nano"), run)
    page = (run / "report.html").read_text()
    assert "&lt;b&gt;fine&lt;/b&gt;" in page
    assert "<svg" in page and "src=" not in page and "@import" not in page


def test_unfinished_stages_are_left_out(tmp_path):
    leave(tmp_path, "07_evaluation", 0, [], [], status="running")
    content = report.collect(recipes.load_plan("nano"), tmp_path)
    assert content["stages"] == []
    assert report_texts.plain_statements(content) == ["No stage was evaluated."]


def test_totals_are_those_of_one_seed():
    stage = {"wall_seconds": 1800.0, "tokens": 10, "joules": 5.0, "trainable_parameters": 7}
    found = report.totals([stage | {"seed": 0}, stage | {"seed": 1}], dollars_per_hour=2.0)
    assert found == {
        "minutes": 30.0,
        "tokens": 10.0,
        "dollars": 1.0,
        "joules": 5.0,
        "trainable_parameters": 7,
    }
    silent = [stage | {"seed": 0}, stage | {"seed": 0, "joules": None}]
    assert report.totals(silent, 0.0)["joules"] is None


def test_arms_stand_beside_what_they_took():
    import pandas as pd

    arm = {"group": "rank", "band": "longer", "decoding": "greedy", "tokens": 40.0}
    arms = pd.DataFrame(
        [
            arm | {"arm": "1", "stage": "a", "reference": True, "accuracy": 0.5},
            arm
            | {"arm": "2", "stage": "b", "reference": False, "accuracy": 0.6}
            | {"difference": 0.1, "difference_low": 0.02, "difference_high": 0.18},
        ]
    ).assign(low=0.4, high=0.7)
    took = {"seed": 0, "wall_seconds": 60.0, "tokens": 99, "joules": None, "metrics": {}}
    stages = [took | {"stage": name, "trainable_parameters": n} for name, n in (("a", 3), ("b", 5))]
    content = {"arms": report.side_by_side(arms, stages, 6.0)}
    ((title, head, body),) = report_texts.arms_tables(content)
    assert title == "Side by side: rank"
    assert body[0] == ["1", "40", "1.0", "99", "3", "0.1000", "50.0 [40.0, 70.0]", "reference"]
    assert body[1][4:] == ["5", "0.1000", "60.0 [40.0, 70.0]", "+10.0 [+2.0, +18.0]"]
    assert len(head) == len(body[0])


def test_a_checkpoint_took_its_share_of_the_stage():
    """Step 10 of 40 of a minute."""
    import pandas as pd

    arms = pd.DataFrame([{"stage": "grpo/step_10"}, {"stage": "grpo"}])
    stage = {"stage": "grpo", "seed": 0, "wall_seconds": 60.0, "tokens": 100, "joules": None}
    stage |= {"trainable_parameters": 3, "metrics": {"steps": 40}}
    first, whole = report.side_by_side(arms, [stage], 6.0)
    assert (first["training_minutes"], first["training_tokens"]) == (0.25, 25)
    assert first["training_dollars"] == pytest.approx(0.025)
    assert (whole["training_minutes"], whole["training_trainable_parameters"]) == (1.0, 3)


def test_published_numbers_stand_beside_ours_with_their_harness(run):
    place = run / "07_evaluation" / "data" / "published.jsonl"
    theirs = {"suite": "x", "model": "M", "score": 0.123, "harness": "theirs 1.0"}
    bands = [row["band"] for row in report.collect(recipes.load_plan("nano"), run)["ladder"]]
    write_rows(place, [theirs | {"band": bands[0]}])
    content = report.collect(recipes.load_plan("nano"), run)
    ((title, head, body),) = report_texts.published_table(content)
    assert head == ["model", bands[0], "harness"]
    assert body[-1] == ["M", "12.3", "theirs 1.0"]
    assert body[0][0] == "04_dpo, seed 0" and body[0][-1] == "this run (lm-eval)"
    assert "theirs 1.0" in pages.report_markdown(content)
