"""Verification: what it replaces is what its report says (the stages run in test_sequence)."""

import json

import pytest

from trlm_utils.files import write_json
from trlm_utils.runner import pipeline, recipes, verify


@pytest.fixture
def report_of(tmp_path, monkeypatch):
    """The report of a recipe, with stages that leave nothing but a count of steps."""

    def run_plan(plan, folder):
        assert not plan.needs_hub
        for stage in plan.stages:
            write_json(folder / stage.stage / "metrics.json", {"steps": 1})

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
