"""Recipes: every bad request gets one line, before anything is started."""

import json

import pytest
import yaml

from trlm_utils.runner import parameters, recipe_file, recipes, verify
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.training import configuration


def write(tmp_path, *stages, **more):
    path = tmp_path / "own.yaml"
    content = {"name": "own", "scales": {"nano": {"stages": list(stages)}}, **more}
    path.write_text(yaml.safe_dump(content))
    return str(path)


BASE = {"stage": "00_start_here"}
DATA = {"stage": "01_data_curation"}


SCALES = [
    (name, scale)
    for name in recipe_file.list_recipes()
    for scale in recipe_file.read(recipe_file.find_recipe(name)).scales
    if name != "gsm8k"  # wants a whole folder; test_sequence runs it
]


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_shipped_recipes_are_valid(name, scale):
    given, text = [], recipe_file.find_recipe(name).read_text(encoding="utf-8")
    if "{DATA_DIR}" in text:
        given.append(f"01_data_curation.DATA_DIR={json.dumps(str(verify.FILES))}")
    if (name, scale) == ("tiny-r1", "files"):
        pytest.skip("wants whole folders")
    if scale == "cpu":  # its weights are fetched by `make real`
        given.append("00_start_here.BASE_MODEL=''")
    plan = recipes.load_plan(name, scale, 0, given)
    assert plan.stages and plan.about


def test_a_model_that_was_not_fetched_yet_is_told_how_to_get(tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "from_root", lambda name: tmp_path / name)
    with pytest.raises(RecipeError, match="SmolLM2.*gguf does not exist; `make real` fetches it"):
        given = [f"01_data_curation.DATA_DIR={json.dumps(str(verify.FILES))}"]
        recipes.load_plan("smollm2", "cpu", 0, given)


def test_trlm_full_has_the_originals_settings():
    plan = recipes.load_plan("trlm", "full")
    by_stage = {s.stage: s.parameters for s in plan.stages}
    mixtures = by_stage["01_data_curation"]["MIXTURE"]
    totals = {n: sum(part["rows"] for part in m["sources"]) for n, m in mixtures.items()}
    assert totals["sft_stage1"] == 58_000
    assert totals["sft_stage2"] == 78_000
    assert totals["preferences"] == 50_000
    one, two, dpo = (by_stage[s] for s in ("02_sft_stage1", "03_sft_stage2", "04_dpo"))
    assert (one["EPOCHS"], one["LEARNING_RATE"], one["NEFTUNE"]) == (3.0, 3e-4, 0.01)
    assert (two["EPOCHS"], two["LEARNING_RATE"], two["NEFTUNE"]) == (1.0, 3e-4, 0.02)
    assert (dpo["LOSS_TYPE"], dpo["BETA"], dpo["LEARNING_RATE"]) == ("apo_zero", 0.1, 1e-5)
    assert (dpo["MAX_GRAD_NORM"], dpo["MIN_LR_RATE"]) == (0.2, 0.1)
    for stage in (one, two, dpo):
        assert stage["BATCH_SIZE"] * stage["ACCUMULATION"] == 128
    assert plan.needs_hub


def test_links_follow_the_order_of_stages():
    plan = recipes.load_plan("trlm")
    links = {s.stage: (s.parameters.get("MODEL_FROM"), s.reads) for s in plan.stages}
    assert links["04_dpo"] == ("03_sft_stage2", ("01_data_curation", "03_sft_stage2"))
    assert links["07_evaluation"][1] == (
        "00_start_here",
        "01_data_curation",
        "02_sft_stage1",
        "03_sft_stage2",
        "04_dpo",
    )


def test_a_stage_may_start_from_another_model_and_run_a_notebook_twice(tmp_path):
    second = {"stage": "02b", "notebook": "02_sft_stage1", "model_from": "00_start_here"}
    plan = recipes.load_plan(write(tmp_path, BASE, DATA, {"stage": "02_sft_stage1"}, second))
    assert plan.stages[-1].parameters["MODEL_FROM"] == "00_start_here"
    assert plan.stages[-1].parameters["STAGE"] == "02b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "02_sft_stage1.LERNING_RATE=1",
            "no parameter 'LERNING_RATE'; did you mean LEARNING",
        ),
        ("02_sft_stag1.EPOCHS=1", "no stage '02_sft_stag1'; did you mean 02_sft_stage1"),
        ("EPOCHS=1", "not of the form STAGE.NAME=VALUE"),
        ("02_sft_stage1.LEARNING_RATE=1e-6", "write 1.0e-6"),
        ("02_sft_stage1.BATCH_SIZE=1.5", "BATCH_SIZE is 1.5, not int"),
        ("02_sft_stage1.BATCH_SIZE=true", "BATCH_SIZE is True, not int"),
        ("02_sft_stage1.BATCH_SIZE=0", "must be above 0"),
        ("02_sft_stage1.LEARNING_RATE=.nan", "must be above 0"),
        ("02_sft_stage1.STAGE=x", "set by the runner"),
        ("02_sft_stage1.MODEL_FROM=06_grpo", "which is no earlier stage"),
        ("06_grpo.MICRO_BATCH=7", "cannot be split into micro-batches of 7"),
        ("06_grpo.GROUP_SIZE=1", "at least 2 rollouts"),
        ("06_grpo.PROMPTS_PER_STEP=65536", "makes only GRPO_PROMPTS"),
        ("06_grpo.LOSS_TYPE=cispo", "has to be above 1"),
        ("05_grpo_rewards.REWARD_WEIGHTS={acuracy: 1.0}", "unknown reward"),
        ("01_data_curation.TEACHERS={careful: 0.5}", "add up to 0.5"),
        ("01_data_curation.STAGE2_STEPS=[1, -2]", "STAGE2_STEPS: .* are no relative frequencies"),
        ("01_data_curation.SOURCE=gsm9k", "SOURCE is 'gsm9k'"),
        ("01_data_curation.TEACHERS={careful", "not YAML"),
    ],
)
def test_bad_overrides_get_one_line(override, message):
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")) as caught:
        recipes.load_plan("nano", overrides=[override])
    assert "\n" not in str(caught.value)


def test_a_parameter_may_be_set_in_every_stage_that_has_it():
    overrides = ["*.SAVE_STEPS=7", "04_dpo.SAVE_STEPS=9"]
    plan = recipes.load_plan("nano", overrides=overrides)
    found = {
        s.stage: s.parameters["SAVE_STEPS"] for s in plan.stages if "SAVE_STEPS" in s.parameters
    }
    assert found == {"02_sft_stage1": 7, "03_sft_stage2": 7, "04_dpo": 9, "06_grpo": 7}
    with pytest.raises(RecipeError, match=r"--set \*.TRAKER: no parameter 'TRAKER'; did you mean"):
        recipes.load_plan("nano", overrides=["*.TRAKER=wandb"])


def test_a_whole_number_is_fine_for_a_float():
    plan = recipes.load_plan("nano", overrides=["02_sft_stage1.EPOCHS=2"])
    assert plan.stages[2].parameters["EPOCHS"] == 2.0


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"stage": "09_nope"}], "no notebook '09_nope'"),
        ([BASE, BASE], "occurs twice"),
        ([{"stage": "a/b"}], "bad name"),
        ([{**BASE, "params": {}}], "unknown key 'params'; did you mean parameters"),
        ([{"stage": "04_dpo"}], "DATA_FROM is '', which is no earlier stage"),
        ([BASE, {**DATA, "model_from": "00"}], "MODEL_FROM is '00'"),
        ([], r"stages is \[\]: needs at least 1"),
    ],
)
def test_bad_recipes_get_one_line(tmp_path, stages, message):
    with pytest.raises(RecipeError, match=message):
        recipes.load_plan(write(tmp_path, *stages))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"continues": "nanno"}, "no recipe 'nanno'; did you mean nano"),
        ({"continues": 3}, "continues is 3: should be a text"),
        ({"continues": "trlm", "scales": {"full": 1}}, "scales, full is 1: should be a table"),
        ({"scales": ["nano"]}, "scales is .*: should be a table"),
        ({"scales": {"full": {"stages": ["00_start_here"]}}}, "stages, 0 is .*: should be a table"),
        ({"scales": {"full": {"stages": {"stage": "x"}}}}, "stages is .*: should be a list"),
        ({"scales": {"full": {"stages": [BASE]}}, "continues": "nano"}, "nano has no scale 'full'"),
        (
            {"scales": {"full": {"stages": [BASE]}}, "groups": ["a"]},
            "groups is .*: should be a table",
        ),
        (
            {"scales": {"full": {"stages": [BASE]}}, "groups": {"a": {"b": "c"}}},
            "groups, a is .*: needs at least 2",
        ),
    ],
)
def test_recipes_of_another_shape_get_one_line(tmp_path, content, message):
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump({"scales": {"full": {"stages": [BASE]}}} | content))
    with pytest.raises(RecipeError, match=message):
        recipes.load_plan(str(path), "full")


def test_unknown_recipe_and_scale():
    with pytest.raises(RecipeError, match="did you mean nano"):
        recipes.load_plan("nanno")
    with pytest.raises(RecipeError, match="no scale 'full'"):
        recipes.load_plan("nano", "full")


def test_broken_yaml_is_one_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1,\nb: {")
    with pytest.raises(RecipeError, match="not valid YAML") as caught:
        recipes.load_plan(str(path))
    assert "\n" not in str(caught.value)


def test_gsm8k_without_its_folder_says_what_to_add():
    with pytest.raises(RecipeError, match="--set 01_data_curation.DATA_DIR=FOLDER"):
        recipes.load_plan("gsm8k")


def test_gsm8k_without_its_files_says_so(tmp_path):
    with pytest.raises(RecipeError, match="train.jsonl is missing"):
        recipes.load_plan("gsm8k", overrides=[f"01_data_curation.DATA_DIR={tmp_path}"])


def test_tiny_r1_on_files_needs_both_folders(tmp_path):
    row = json.dumps({"question": "1 + 1?", "answer": "#### 2", "solution": "2"}) + "\n"
    for name in ("train", "test", "model_solutions"):
        (tmp_path / f"{name}.jsonl").write_text(row)
    given = [f"01_data_curation.DATA_DIR={tmp_path}"]
    with pytest.raises(RecipeError, match="add --set 07_evaluation.SUITE_DIR=FOLDER"):
        recipes.load_plan("tiny-r1", "files", overrides=given)
    given.append(f"07_evaluation.SUITE_DIR={tmp_path}")
    asks = recipes.load_plan("tiny-r1", "files", overrides=given).stages[-1].parameters
    assert (asks["SUITES"], asks["TASKS"]) == (["nano", "trlm", "tina"], ["gsm8k", "math_500"])


def test_parameters_cell_of_another_form_is_refused(tmp_path, monkeypatch):
    cell = {"cell_type": "code", "source": "STAGE: str = 'x'\nN: int = len('abc')\n"}
    cell["metadata"] = {"tags": ["parameters"]}
    (tmp_path / "nb.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(RecipeError, match="line 2: not of the form"):
        parameters.read_parameters(tmp_path / "nb.ipynb")


KEEPS = {"stage": "06_grpo", "parameters": {"KEEP_CHECKPOINTS": True, "SAVE_STEPS": 10}}
KEEPS["parameters"] |= {"MAX_STEPS": 20, "REWARDS_FROM": "", "MODEL_FROM": "00_start_here"}


def test_a_kept_checkpoint_may_be_evaluated(tmp_path):
    asks = {"stage": "07_evaluation", "parameters": {"EVALUATE": ["06_grpo/step_10", "06_grpo"]}}
    plan = recipes.load_plan(write(tmp_path, BASE, DATA, KEEPS, asks))
    assert plan.stages[-1].parameters["EVALUATE"] == ["06_grpo/step_10", "06_grpo"]
    assert "06_grpo" in plan.stages[-1].reads


@pytest.mark.parametrize("model", ["06_grpo/step_15", "06_grpo/step_30", "00_start_here/step_10"])
def test_a_checkpoint_that_is_not_kept_is_refused(tmp_path, model):
    asks = {"stage": "07_evaluation", "parameters": {"EVALUATE": [model]}}
    with pytest.raises(RecipeError, match="keeps no such checkpoint"):
        recipes.load_plan(write(tmp_path, BASE, DATA, KEEPS, asks))


def test_training_from_a_kept_checkpoint_is_refused(tmp_path):
    later = {"stage": "later", "notebook": "03_sft_stage2", "model_from": "06_grpo/step_10"}
    with pytest.raises(RecipeError, match="a checkpoint is only evaluated"):
        recipes.load_plan(write(tmp_path, BASE, DATA, KEEPS, later))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"SUITES": ["nono"]}, "no suite 'nono'"),
        ({"TASKS": ["gsm8k"]}, "no benchmark 'gsm8k'"),
        ({"SUITES": ["tina"], "SUITE_DIR": "/no/such/place"}, "SUITE_DIR .* is not a folder"),
        ({"SUITE_QUESTIONS": -3}, "SUITE_QUESTIONS is -3: must not be negative"),
        ({"SUITES": ["tina"]}, "tina needs its files, and SUITE_DIR is not set: add --set"),
    ],
)
def test_unknown_suites_are_refused_before_anything_runs(tmp_path, parameters, message):
    asks = {"stage": "07_evaluation", "parameters": parameters}
    with pytest.raises(RecipeError, match=message):
        recipes.load_plan(write(tmp_path, BASE, DATA, asks))


def test_full_scales_ask_the_suites_of_their_originals():
    for name, checkpoints in (("trlm", 0), ("tina", 16)):
        values = recipes.load_plan(name, "full").stages[-1].parameters
        assert values["SUITES"] == [name]
        assert sum("/step_" in model for model in values["EVALUATE"]) == checkpoints


def test_losses_and_schedules_are_those_of_the_libraries():
    """The tables are ours so that recipes are checked in milliseconds; here they meet TRL."""
    import re

    from transformers import SchedulerType
    from trl import DPOConfig, GRPOConfig, SFTConfig

    for name, config in (("sft", SFTConfig), ("dpo", DPOConfig), ("grpo", GRPOConfig)):
        told = config.__dataclass_fields__["loss_type"].metadata["help"]
        first = told.split("If multiple")[0] if name == "dpo" else told.split(". ")[1]
        assert set(re.findall(r"'(\w+)'", first)) == set(configuration.LOSSES[name])
    assert list(configuration.SCHEDULERS) == [kind.value for kind in SchedulerType]


def test_an_arm_leaves_out_what_a_notebook_walks_through_for_its_reader():
    stages = recipes.load_plan("careful").stages
    found = {s.stage: s.parameters["HAND_STEPS"] for s in stages if s.notebook.stem == "06_grpo"}
    assert found["06_grpo"] > 0 == found["careful_grpo"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("02_sft_stage1.LOSS_TYPE=sigmoid", "LOSS_TYPE 'sigmoid' is none of sft's: nll, dft"),
        ("03_sft_stage2.LOSS_TYPE=nl", "LOSS_TYPE 'nl' is none of sft's"),
        ("04_dpo.LOSS_TYPE=nll", "LOSS_TYPE 'nll' is none of dpo's: sigmoid"),
        ("06_grpo.LOSS_TYPE=ppo", "LOSS_TYPE 'ppo' is none of grpo's: grpo, dr_grpo"),
        ("06_grpo.LOSS_TYPE=luspo", "LOSS_TYPE luspo needs IMPORTANCE sequence"),
        (
            "06_grpo.ATTENTION=flash",
            "ATTENTION is 'flash': is one of eager, sdpa",
        ),
        ("07_evaluation.DTYPE=bf16", "DTYPE is 'bf16': is one of float32, bfloat16, float16"),
        ("06_grpo.SCALE_REWARDS=std", "SCALE_REWARDS is 'std': is one of group, batch, none"),
        ("06_grpo.LR_SCHEDULER=cos", "LR_SCHEDULER is 'cos': is one of linear"),
        ("06_grpo.IMPORTANCE=tokens", "IMPORTANCE is 'tokens': is one of token, sequence"),
        ("02_sft_stage1.OPTIMIZER=adam", "OPTIMIZER is 'adam': is one of muon, adamw"),
        ("02_sft_stage1.LORA_RANK=4", "LORA_RANK needs OPTIMIZER adamw"),
        ("04_dpo.PAIRS=mine", "PAIRS is 'mine': is one of on_policy, dataset"),
        ("00_start_here.BASE_MODEL=./no/model", "BASE_MODEL ./no/model does not exist"),
        ("00_start_here.BASE_MODEL=/no/m.gguf", "BASE_MODEL /no/m.gguf does not exist"),
        ("00_start_here.BASE_MODEL=tests", "BASE_MODEL tests has no config.json"),
        ("00_start_here.BASE_MODEL=me/model", "is no folder here, and this recipe works offline"),
        ("00_start_here.HIDDEN_SIZE=60", "HIDDEN_SIZE is 60, no multiple of 8"),
        ("00_start_here.CHECK_PROBLEMS=10", "CHECK_PROBLEMS is 10: must be at least 40"),
        ("00_start_here.VOCAB_SIZE=300", "VOCAB_SIZE is 300; bytes, numbers"),
        ("00_start_here.MAX_LENGTH=1024", "MAX_LENGTH 1024 is more than MAX_POSITIONS 512"),
        (
            "07_evaluation.MAX_NEW_TOKENS=600",
            "MAX_NEW_TOKENS 600 does not fit into the model's 512",
        ),
        ("01_data_curation.DATA_DIR=/no/place", "DATA_DIR .* is not a folder"),
        ("01_data_curation.HUB_MIRROR=no_place", "HUB_MIRROR no_place is not a folder"),
        ("01_data_curation.SOURCE=gsm8k", "DATA_DIR is not set: add --set 01_data"),
        ("01_data_curation.SOURCE=mixture", "MIXTURE describes none"),
        ("01_data_curation.EVAL_BANDS={longst: 9}", "EVAL_BANDS names .longst.; there are: in_"),
        ("01_data_curation.EVAL_BANDS={longest: 0}", "longest is 0, not a number of questions"),
        ("01_data_curation.CONTRACT=poem", "CONTRACT is 'poem': is one of think"),
        ("06_grpo.ALLOW_FAILED={cliped: x}", "ALLOW_FAILED: no check 'cliped'"),
        (
            "06_grpo.ALLOW_FAILED={completions clipped: ''}",
            "say why 'completions clipped' may fail",
        ),
        ("06_grpo.ALLOW_FAILED={completions clipped: true}", "say why 'completions clipped'"),
        ("06_grpo.ALLOW_FAILED=true", "ALLOW_FAILED is True, not dict"),
        ("06_grpo.REWARD_WEIGHTS={mine.py:f: 1.0}", "there is no file mine.py"),
        ("06_grpo.REWARD_WEIGHTS={accuracy: .inf}", "weight of accuracy is inf"),
        ("06_grpo.REWARD_WEIGHTS={learned: 1.0}", "learned needs REWARD_MODEL_FROM"),
        ("06_grpo.TEMPERATURE=0", "TEMPERATURE is 0.0: must be above 0"),
        ("06_grpo.LEARNING_RATE=-1.0", "must be above 0"),
        ("07_evaluation.SUITES=[nope]", "nope"),
    ],
)
def test_what_would_fail_after_minutes_is_refused_at_once(override, said):
    with pytest.raises(RecipeError, match=said) as caught:
        recipes.load_plan("nano", overrides=[override])
    assert "\n" not in str(caught.value) and override.split(".")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "../../x"}, "name is '../../x': a bad name"),
        ({"name": "/tmp/x"}, "name is '/tmp/x': a bad name"),
        ({"name": ""}, "name is '': a bad name"),
        ({"name": ".hidden"}, "a bad name"),
        ({"name": "seed-1"}, "name is 'seed-1': a bad name"),
        ({"continues": "../nano"}, "continues is '../nano': a bad name"),
        ({"cost": {"dollars_per_hour": -1.0}}, "dollars_per_hour is -1.0: must not be negative"),
        ({"cost": {"dollars": 1.0}}, "cost: unknown key 'dollars'; did you mean dollars_per_hour"),
        ({"abuot": "x"}, "unknown key 'abuot'; did you mean about"),
        ({"deviations": {"nanno": ["x"]}}, "deviations of 'nanno'; did you mean nano"),
        ({"result": "04_dpo"}, "result names '04_dpo'"),
    ],
)
def test_a_recipe_that_leaves_its_place_or_shape_is_refused(tmp_path, more, said):
    with pytest.raises(RecipeError, match=said) as caught:
        recipes.load_plan(write(tmp_path, BASE, DATA, **more))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", ["..", "seed-2", "a/b", ""])
def test_a_stage_cannot_leave_the_run(tmp_path, stage):
    with pytest.raises(RecipeError, match="a bad name"):
        recipes.load_plan(write(tmp_path, {**BASE, "stage": stage, "notebook": "00_start_here"}))


@pytest.mark.parametrize("name", ["LIVE_MIX", "LIVE_CHANGE"])
def test_a_mix_of_the_live_section_is_checked_before_anything_starts(name):
    with pytest.raises(RecipeError, match="unknown reward"):
        recipes.load_plan("deep_dives", overrides=[f"13_reward_lab.{name}={{acuracy: 1.0}}"])
