"""Pushing to the Hub, against a stand-in of its interface; secrets stay where they are."""

import json

import pytest
import yaml
from hub_server import TOKEN, Hub
from huggingface_hub import constants

from trlm_utils import files, keys
from trlm_utils.curation import mixture
from trlm_utils.files import CourseError, write_json, write_rows
from trlm_utils.runner import command, kernel, recipes
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.stage import Stage
from trlm_utils.training import hub

pytest.importorskip("dotenv", reason="python-dotenv is not installed")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The stand-in, with its token in ``.env`` of a project's folder."""
    monkeypatch.setattr(files, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(hub, "PROJECT_ROOT", tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / ".env").write_text(f"# secrets\nHF_TOKEN={TOKEN}\n")
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    """A finished stage with a model and one kept checkpoint."""
    from trlm_utils import models

    place = tmp_path / "runs" / "nano" / "06_grpo"
    for name in ("model", "step_2/model"):
        models.save_model(model, tokenizer, place / name)
    parameters = {"SEED": 1, "BETA": 0.1, "BASE_MODEL": "/home/me/model"}
    manifest = {"recipe": "nano", "seed": 1, "parameters": parameters, "versions": {"trl": "1"}}
    write_json(place / "manifest.json", manifest)
    write_json(place / "metrics.json", {"headline": "reward up", "first": 0.25, "notes": ["x"]})
    return place


def card_of(found):
    _, head, text = found["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_model_its_card_and_its_checkpoints_go_to_a_private_repository(stand_in, folder):
    name = "me/tiny-06_grpo-seed-1"
    assert hub.push(folder, "me/tiny") == f"pushed to {stand_in.url}/{name}"
    found = stand_in.files(name)
    for path in (folder / "model").iterdir():
        assert found[path.name] == path.read_bytes()
    head, text = card_of(found)
    assert head["library_name"] == "transformers" and head["tags"] == ["trlm", "nano"]
    assert "reward up" in text and "| first | 0.25 |" in text and "| BETA | 0.1 |" in text
    assert "/home/me" not in text
    step = stand_in.files(name, branch="step_2")
    assert step["model.safetensors"] == (folder / "step_2/model/model.safetensors").read_bytes()
    assert stand_in.private[name]


def test_a_checkpoint_goes_to_its_branch_while_training_goes_on(stand_in, folder):
    stage = Stage("06_grpo", "nano", 1, folder.parent)
    line = hub.push_checkpoint(stage, 2, "me/tiny")
    assert line == "pushed to me/tiny-06_grpo-seed-1, branch step_2"
    assert "config.json" in stand_in.files("me/tiny-06_grpo-seed-1", branch="step_2")


def test_adapters_name_the_repository_of_the_model_that_they_were_trained_on(stand_in, folder):
    trained_on = {"base_model_name_or_path": "/home/me/runs/nano/04_dpo/model", "r": 8}
    write_json(folder / "step_2" / "model" / hub.ADAPTER, trained_on)
    hub.push(folder, "me/tiny")
    found = stand_in.files("me/tiny-06_grpo-seed-1", branch="step_2")[hub.ADAPTER]
    assert json.loads(found) == {"base_model_name_or_path": "me/tiny-04_dpo-seed-1", "r": 8}


def test_data_sets_become_configurations_and_a_mixture_keeps_what_it_left_out(stand_in, tmp_path):
    place = tmp_path / "01_data_curation"
    write_json(place / "metrics.json", {"kept": {"eval": 1}})
    for name in ("eval", "sft_stage1"):
        write_rows(place / "data" / f"{name}.jsonl", [{"a": 1}])
    own = place / "data" / "sft_stage1"
    write_json(own / mixture.METADATA, {})
    write_rows(own / mixture.REJECTED, [{"secret": 1}])
    (own / "README.md").write_text("---\n{}\n---\n# sft_stage1\n")
    hub.upload(place, "me/tiny")
    found = stand_in.files("me/tiny-01_data_curation", "dataset")
    assert set(found) - {".gitattributes"} == {"README.md", "data/eval.jsonl"}
    (config,) = card_of(found)[0]["configs"]
    assert config == {"config_name": "eval", "data_files": "data/eval.jsonl"}
    assert set(stand_in.files("me/tiny-sft_stage1", "dataset")) == {"README.md", "metadata.json"}


def test_a_failed_push_is_one_line_with_the_command_that_pushes_again(
    stand_in, folder, capsys, monkeypatch
):
    stand_in.failing = 403
    line = hub.push(folder, "me/tiny")
    assert line.startswith("not pushed to me/tiny: ") and "403" in line and "\n" not in line
    assert TOKEN not in line
    again = line.partition("python -m trlm_utils ")[2].split()
    assert again == ["push", "runs/nano/06_grpo", "me/tiny"]
    monkeypatch.chdir(folder.parents[2])
    assert command.main(again) == 1
    assert capsys.readouterr().err.startswith("error: not pushed to me/tiny: ")
    stand_in.failing = 0
    assert command.main(again) == 0
    assert capsys.readouterr().out == f"{stand_in.url}/me/tiny-06_grpo-seed-1\n"
    assert "model.safetensors" in stand_in.files("me/tiny-06_grpo-seed-1")


def test_an_empty_stage_is_refused(stand_in, tmp_path):
    with pytest.raises(CourseError, match="no model and no data sets"):
        hub.upload(tmp_path / "nothing", "me/tiny")


@pytest.mark.parametrize("name", ["me", "me/", "a/b/c", "me/ti ny", "me/--"])
def test_a_name_that_is_none_is_refused_before_anything_runs(stand_in, name):
    with pytest.raises(RecipeError, match="stage 06_grpo: PUSH_TO is not of the form owner/name"):
        recipes.load_plan("nano", overrides=[f"06_grpo.PUSH_TO='{name}'"])


def test_without_a_token_a_push_is_refused_before_anything_runs(stand_in, tmp_path):
    recipes.load_plan("nano", overrides=["06_grpo.PUSH_TO=me/tiny"])
    (tmp_path / ".env").unlink()
    with pytest.raises(RecipeError, match="set HF_TOKEN in the environment or in .env"):
        recipes.load_plan("nano", overrides=["06_grpo.PUSH_TO=me/tiny"])


def test_the_environment_goes_before_the_file(stand_in, monkeypatch):
    assert keys.find("HF_TOKEN") == TOKEN
    monkeypatch.setenv("HF_TOKEN", "other")
    assert keys.find("HF_TOKEN") == "other" == keys.secrets()["HF_TOKEN"]
    assert keys.find("NOT_THERE") == ""


def test_secrets_of_the_file_are_removed_from_executed_notebooks(stand_in, tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("MY_API_KEY='correct horse battery'\nPLAIN=readable text\n")
    path = tmp_path / "n.ipynb"
    path.write_text("key correct horse battery, readable text")
    kernel.redact(path, kernel.secret_values())
    assert path.read_text() == "key [removed], readable text"
