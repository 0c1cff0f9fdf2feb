"""Verification: what it replaces is what its report says (the stages run in test_sequence)."""

import dataclasses
import json

import pytest

from trlm_utils.files import write_json
from trlm_utils.runner import pipeline, recipes, verify
from trlm_utils.runner.kernel import RunFailed

FILES = {"tiny-r1": [f"01_data_curation.DATA_DIR={json.dumps(str(verify.FILES))}"]}


@pytest.fixture
def report_of(tmp_path, monkeypatch):
    """The report of a recipe, with stages that leave nothing but a count of steps."""

    def run_plan(plan, folder):
        assert not plan.needs_hub
        for stage in plan.stages:
            found = {"steps": 1, "preflight": {"effective batch": True}}
            write_json(folder / stage.stage / "metrics.json", found)

    def report(recipe):
        assert verify.run(recipe, "full") == 0
        return (tmp_path / f"{recipe}-full-verified" / "verified.md").read_text()

    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(pipeline, "run_plan", run_plan)
    return report


def test_the_folder_of_files_is_among_what_was_replaced(report_of):
    built, replaced = report_of("tiny-r1").split("Replaced for the verification:")
    assert '- `01_data_curation.DATA_DIR="tests/fixtures/files"`' in replaced
    assert "DATA_DIR" not in built


def test_a_recipe_that_asks_for_no_folder_gets_none(report_of):
    assert "DATA_DIR" not in report_of("trlm")


def test_few_models_are_asked_and_of_one_step_one_checkpoint_is_kept():
    plan = recipes.load_plan("tina", "full")
    (text,) = [t for t in verify.substitutions(plan) if ".EVALUATE=" in t]
    assert json.loads(text.partition("=")[2]) == ["00_start_here", "open_rs2/step_1", "length_8960"]


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ({"prompt is a prefix": False}, "06_grpo: its pre-flight failed prompt is a prefix"),
        ({}, "06_grpo: its pre-flight ran no check"),
    ],
)
def test_a_check_that_may_not_fail_stops_the_verification(tmp_path, checks, said):
    plan = recipes.load_plan("tunix", "full")
    stages = [stage for stage in plan.stages if stage.notebook.stem == "06_grpo"][:1]
    grpo = dataclasses.replace(stages[0], stage="06_grpo")
    write_json(tmp_path / "06_grpo" / "metrics.json", {"steps": 1, "preflight": checks})
    with pytest.raises(RunFailed, match=said):
        verify.check_preflights(dataclasses.replace(plan, stages=(grpo,)), tmp_path)


@pytest.mark.parametrize("recipe", ["trlm", "qwen-rl", "tina", "tiny-r1", "tunix"])
def test_groups_keep_their_size_and_nothing_skips_the_preflight(recipe):
    plan = recipes.load_plan(recipe, "full", overrides=FILES.get(recipe, []))
    changed = verify.substitutions(plan)
    assert not [text for text in changed if ".GROUP_SIZE=" in text]
    small = recipes.load_plan(recipe, "full", overrides=[*FILES.get(recipe, []), *changed])
    for before, after in zip(plan.stages, small.stages, strict=True):
        given = before.parameters.get("ALLOW_FAILED", {})
        added = set(after.parameters.get("ALLOW_FAILED", {})) - set(given)
        assert added <= set(verify.OF_RANDOM_WEIGHTS)
