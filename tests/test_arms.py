"""Arms side by side: the table's means, paired differences, and what it asks for."""

import pandas as pd
import pytest
import yaml

from trlm_utils.evaluation import arms
from trlm_utils.files import CourseError, write_json, write_rows
from trlm_utils.runner import recipe_file, recipes
from trlm_utils.runner.recipes import RecipeError

GROUPS = {"rate": {"low": "arm-low", "high": "arm-high"}}
SCORES = {  # per seed, one greedy answer to each of four questions
    "arm-low": ([0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]),
    "arm-high": ([1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
}


def records(scores):
    shared = {"band": "longer", "decoding": "sampled", "texts": [""], "tokens": 3.0}
    shared |= {"truncated": 0.0, "well_formed": 1.0}
    return [{"id": f"q{i}", "accuracy": a, **shared} for i, a in enumerate(scores)]


@pytest.fixture
def base(tmp_path):
    for seed, folder in ((0, tmp_path), (1, tmp_path / "seed-1")):
        write_json(folder / "x" / "manifest.json", {})
        for stage, scores in SCORES.items():
            place = folder / "evaluated" / "data" / f"records_{stage}.jsonl"
            write_rows(place, records(scores[seed]))
        steps = enumerate((5, 5, 6, 6))
        asked = [{"id": f"q{i}", "difficulty": s, "worked": ["1"]} for i, s in steps]
        write_rows(folder / "evaluated" / "data" / "questions.jsonl", asked)
    return tmp_path


def test_each_arm_has_its_mean_over_seeds_and_its_difference_to_the_reference(base):
    low, high = arms.table(GROUPS, base).to_dict("records")
    assert (low["arm"], low["reference"], low["accuracy"], low["seeds"]) == ("low", True, 0.375, 2)
    assert (high["arm"], high["reference"], high["accuracy"]) == ("high", False, 0.875)
    assert high["difference"] == pytest.approx(0.5)
    assert high["difference_low"] < 0.5 < high["difference_high"]
    assert low["difference"] != low["difference"]  # empty for the reference
    assert (low["n"], low["tokens"]) == (4, 3.0)


def test_the_table_is_written_and_read_back(base, monkeypatch):
    text = arms.write(GROUPS, base, "rates")
    assert "high" in text and "+50.0" in text and "2 seeds" in text
    found = arms.read_table("rates", ["arm", "accuracy"], str(base / "rates.csv"))
    assert found["accuracy"].to_list() == [0.375, 0.875]


def test_accuracy_by_number_of_steps_is_the_mean_over_seeds(base):
    found = arms.by_steps(GROUPS, base)
    low = found[found["arm"] == "low"].set_index("steps")
    # 5 steps: questions 0 and 1, right 0 of 2 and 1 of 2; 6 steps: 1 of 2 in both seeds
    assert low["accuracy"].to_dict() == {5: 0.25, 6: 0.5}
    assert low[["n", "seeds"]].to_numpy().tolist() == [[2, 2], [2, 2]]


def test_the_seconds_of_an_arm_are_the_mean_over_seeds(base):
    for folder, seconds in ((base, 30.0), (base / "seed-1", 50.0)):
        write_json(folder / "arm-low" / "manifest.json", {"wall_seconds": seconds})
    low, high = arms.table(GROUPS, base).to_dict("records")
    assert low["seconds"] == 40.0
    assert high["seconds"] != high["seconds"]  # its stage left no manifest


def test_curves_hold_every_entry_of_every_log(base):
    (base / "seed-1" / "arm-low").mkdir()
    (base / "seed-1" / "arm-low" / "log_history.csv").write_text("step,reward\n1,0.25\n2,0.5\n")
    found = arms.curves(GROUPS, base)
    assert found.to_dict("list") == {
        "group": ["rate"] * 2,
        "arm": ["low"] * 2,
        "seed": [1, 1],
        "step": [1, 2],
        "reward": [0.25, 0.5],
    }


def test_replies_of_the_arms_stand_in_a_table_of_their_own(base):
    assert arms.replies(GROUPS, base).empty
    row = {"step": 5, "question": "2 + 2?", "answer": "4", "reply": "It is 4.", "right": True}
    write_rows(base / "arm-high" / "data" / arms.REPLIES, [row])
    arms.write(GROUPS, base, "rates")
    found = arms.read_table("rates_replies", ["arm", "reply"], str(base / "rates_replies.csv"))
    assert found.to_dict("records") == [{"group": "rate", "arm": "high", **row}]


def test_a_missing_table_of_replies_names_the_recipe_that_makes_it():
    with pytest.raises(CourseError, match="RECIPE=algorithms"):
        arms.find_table("algorithms_replies")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no table"),
        ("", "is no table"),
        ("a,b\n1,2,3,4\n1\n1,2,3,4,5,6", "is no table"),
        ("arm,other\nx,1\n", "has no accuracy"),
        ("arm,accuracy\n", "has no rows"),
    ],
)
def test_a_table_that_cannot_be_read_gets_one_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CourseError, match=message):
        arms.read_table("rates", ["arm", "accuracy"], str(path))


def test_seeds_without_every_arm_are_left_out(base):
    (base / "seed-1" / "evaluated" / "data" / "records_arm-high.jsonl").unlink()
    assert set(arms.table(GROUPS, base)["seeds"]) == {1}
    (base / "evaluated" / "data" / "records_arm-high.jsonl").unlink()
    assert "no seed" in arms.write(GROUPS, base, "rates")


def test_every_arm_of_the_recipe_differs_from_its_reference_in_what_it_says():
    plan = recipes.load_plan("ablations")
    stages = {stage.stage: stage.parameters for stage in plan.stages}
    allowed = {
        "teachers, after SFT": {"DATA_FROM"},
        "teachers, then GRPO": {"MODEL_FROM"},
        "DPO, own replies": {"LOSS_TYPE"},
        "DPO, teachers' replies": {"LOSS_TYPE", "PAIRS"},
        "GRPO loss, rollouts used twice": {"LOSS_TYPE", "IMPORTANCE", "ITERATIONS", "MAX_STEPS"}
        | {"EPSILON", "EPSILON_HIGH"},
        "divided by the deviation": {"LOSS_TYPE", "SCALE_REWARDS"},
        "group size": {"GROUP_SIZE", "PROMPTS_PER_STEP"},
        "learning rate": {"LEARNING_RATE", "VECTOR_RATE"},
        "KL penalty": {"KL_BETA"},
        "KL penalty, rate 5e-3": {"KL_BETA"},
        "GRPO from": {"MODEL_FROM", "ALLOW_FAILED"},
        "LoRA": {"LORA_RANK", "LEARNING_RATE", "VECTOR_RATE"},
    }
    assert plan.groups.keys() == allowed.keys()
    for title, group in plan.groups.items():
        first, *others = (stages[name] for name in group.values())
        for other in others:
            differing = {key for key in first if first[key] != other[key]}
            assert differing and differing - {"STAGE", "LOOK_EVERY"} <= allowed[title], title


def test_all_group_sizes_draw_as_many_completions():
    plan = recipes.load_plan("ablations")
    stages = {stage.stage: stage.parameters for stage in plan.stages}
    sizes = [stages[name] for name in plan.groups["group size"].values()]
    assert {p["PROMPTS_PER_STEP"] * p["GROUP_SIZE"] * p["MAX_STEPS"] for p in sizes} == {3840}


def test_a_continuing_recipe_lies_in_the_other_ones_folder():
    path = recipe_file.find_recipe("ablations")
    assert recipe_file.run_name(path) == "nano"
    nano, plan = recipes.load_plan("nano"), recipes.load_plan("ablations")
    assert plan.stages[: len(nano.stages)] == nano.stages
    compared = {stage for arms in plan.groups.values() for stage in arms.values()}
    assert set(plan.stages[-1].parameters["EVALUATE"]) == compared


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"g": {"a": "00_start_here", "b": "06_grp"}}, "names '06_grp'"),
        ({"g": {"a": "00_start_here"}}, "needs at least 2"),
    ],
)
def test_a_wrong_group_is_one_line(tmp_path, groups, message):
    scales = {"nano": {"stages": [{"stage": "00_start_here"}]}}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "scales": scales, "groups": groups}))
    with pytest.raises(RecipeError, match=message):
        recipes.load_plan(str(path))


def test_differences_over_seeds_by_hand():
    """Changes of 1, 2 and 3 points: mean 2, standard error 1/sqrt(3), Student's t of 2: 4.3027."""
    asked = {"group": "g", "questions": "held out", "decoding": "greedy"}
    rows = [
        {"seed": seed, "arm": arm, "score": 10.0 * seed + change, **asked}
        for seed in (1, 2, 3)
        for arm, change in (("none", 0), ("wrong", seed))
    ]
    (found,) = arms.over_seeds(pd.DataFrame(rows), {"g": "none"}, "score").to_dict("records")
    assert (found["arm"], found["seeds"], found["difference"]) == ("wrong", 3, 2.0)
    half = 4.302653 / 3**0.5
    assert (found["low"], found["high"]) == pytest.approx((2 - half, 2 + half))
    with pytest.raises(CourseError, match="needs two of them"):
        arms.over_seeds(pd.DataFrame(rows[:2]), {"g": "none"}, "score")


def test_results_with_another_system_message_stand_in_a_table_of_their_own(base):
    rows = [{"stage": "arm-low", "band": "longer", "accuracy": 0.5}]
    for name, message in (("before", "Work it step by step."), ("evaluated", "")):
        write_json(base / name / "manifest.json", {"parameters": {"SYSTEM_PROMPT": message}})
        write_rows(base / name / "data" / "ladder.jsonl", rows)
    found = arms.prompted(base)
    assert found.to_dict("records") == [{"asked": "before", **rows[0]}]
    arms.write(GROUPS, base, "rates")
    assert pd.read_csv(base / "rates_asked.csv")["asked"].tolist() == ["before"]


def test_a_table_is_found_in_the_last_run_of_its_own_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "runs_root", lambda: tmp_path)
    (tmp_path / "smollm2-cpu").mkdir()
    path = tmp_path / "smollm2-cpu" / "smollm2_failures.csv"
    path.write_text("arm\nbase\n")
    assert arms.find_table("smollm2_failures") == path
