"""The runner's decisions, without running notebooks (test_sequence.py does that)."""

import json
import os

import pytest

from trlm_utils.files import write_json, write_text
from trlm_utils.runner import command, digest, kernel, pipeline, recipes
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.stage import outputs_digest


@pytest.fixture
def plan():
    return recipes.load_plan("smoke")


def finish(folder, digest):
    write_text(folder / "data" / "x.jsonl", "{}\n")
    write_json(
        folder / "manifest.json",
        {"status": "finished", "inputs": digest, "outputs": outputs_digest(folder)},
    )


def test_digest_changes_with_parameters_and_upstream_but_not_with_the_folder(plan, tmp_path):
    stage = plan.stages[2]
    other = recipes.load_plan("smoke", overrides=["02_sft_stage1.EPOCHS=2.0"]).stages[2]
    moved = recipes.load_plan("smoke", run_dir="/elsewhere").stages[2]
    first = digest.inputs_digest(stage, tmp_path)
    assert first == digest.inputs_digest(stage, tmp_path)
    assert first == digest.inputs_digest(moved, tmp_path)
    assert first != digest.inputs_digest(other, tmp_path)
    finish(tmp_path / "01_data_curation", "d")
    assert first != digest.inputs_digest(stage, tmp_path)


def test_digest_changes_with_a_suites_files(tmp_path):
    data = tmp_path / "math500" / "test.json"
    write_text(data, "[]")
    override = ["07_evaluation.SUITES=[tina]", f"07_evaluation.SUITE_DIR={tmp_path}"]
    stage = recipes.load_plan("smoke", overrides=override).stages[-1]
    before = digest.inputs_digest(stage, tmp_path / "runs")
    assert before == digest.inputs_digest(stage, tmp_path / "runs")
    write_text(data, "[1]")
    assert before != digest.inputs_digest(stage, tmp_path / "runs")


def test_digest_changes_with_the_data_files(tmp_path):
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    row = json.dumps({"question": "q", "answer": "#### 1"})
    for name in ("train", "test", "model_solutions"):
        (folder / f"{name}.jsonl").write_text(row + "\n")
    override = [f"01_data_curation.DATA_DIR={folder}"]
    stage = recipes.load_plan("gsm8k", overrides=override).stages[0]
    before = digest.inputs_digest(stage, tmp_path)
    (folder / "train.jsonl").write_text(row + "\n" + row + "\n")
    assert digest.inputs_digest(stage, tmp_path) != before


def test_finished_means_same_inputs_and_unharmed_outputs(tmp_path):
    finish(tmp_path, "digest")
    assert digest.is_finished(tmp_path, "digest")
    assert not digest.is_finished(tmp_path, "other")
    write_text(tmp_path / "data" / "x.jsonl", "damaged")
    assert not digest.is_finished(tmp_path, "digest")


def test_an_interrupted_stage_keeps_its_checkpoints(plan, tmp_path):
    folder = tmp_path / "02_sft_stage1"
    pipeline.prepare_folder(folder, plan.stages[2], "same")
    write_text(folder / "checkpoints" / "c", "x")
    pipeline.prepare_folder(folder, plan.stages[2], "same")
    assert (folder / "checkpoints" / "c").exists()
    pipeline.prepare_folder(folder, plan.stages[2], "changed")
    assert not (folder / "checkpoints").exists()


def test_a_finished_stage_with_other_inputs_is_kept_aside(plan, tmp_path):
    folder = tmp_path / "02_sft_stage1"
    finish(folder, "old")
    pipeline.prepare_folder(folder, plan.stages[2], "new")
    assert (tmp_path / ".previous" / "02_sft_stage1" / "data" / "x.jsonl").exists()


def test_from_and_only(plan, tmp_path):
    names = [s.stage for s in pipeline.select_stages(plan, tmp_path)]
    assert len(names) == 8
    for name in names:
        finish(tmp_path / name, "d")
    later = pipeline.select_stages(plan, tmp_path, start="06_grpo")
    assert [s.stage for s in later] == ["06_grpo", "07_evaluation"]
    (one,) = pipeline.select_stages(plan, tmp_path, only="04_dpo")
    assert one.stage == "04_dpo"


def test_from_a_stage_whose_inputs_are_missing_is_refused(plan, tmp_path):
    with pytest.raises(RecipeError, match="needs 00_start_here, which is not finished"):
        pipeline.select_stages(plan, tmp_path, only="02_sft_stage1")
    with pytest.raises(RecipeError, match="no stage '99'"):
        pipeline.select_stages(plan, tmp_path, start="99")


def test_two_runners_do_not_share_a_folder(tmp_path):
    with pipeline.locked(tmp_path):
        with pytest.raises(RecipeError, match="another process"):
            with pipeline.locked(tmp_path):
                pass
    with pipeline.locked(tmp_path):
        pass


def test_a_full_disk_is_noticed_before_anything_starts(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "free_disk_mb", lambda: 12.0)
    with pytest.raises(RecipeError, match="only 12 MiB are free"):
        pipeline.run_plan(plan, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(plan, tmp_path, monkeypatch):
    finish(tmp_path / "00_start_here", "kept")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_json", full)
    with pytest.raises(kernel.RunFailed, match="No space left"):
        pipeline.run_plan(plan, tmp_path)
    kept = tmp_path / ".previous" / "00_start_here"
    assert digest.is_finished(kept, "kept")


def test_kernels_get_no_secrets_unless_the_hub_is_needed(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecretsecret")
    with kernel.environment(kernel.kernel_environment(needs_hub=False)):
        assert "HF_TOKEN" not in os.environ
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["HF_TOKEN"] == "hf_secretsecretsecretsecret"
    with kernel.environment(kernel.kernel_environment(needs_hub=True)):
        assert "HF_TOKEN" in os.environ


def test_secrets_are_removed_from_executed_notebooks(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    token = "hf_" + "a" * 30
    path = tmp_path / "n.ipynb"
    path.write_text(f"key correct-horse-battery token {token}")
    kernel.redact(path, kernel.secret_values())
    assert path.read_text() == "key [removed] token [removed]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nanno"], "no recipe 'nanno'; did you mean nano"),
        (["run", "nano", "--only", "99"], "no stage '99'"),
        (["run", "nano", "--set", "04_dpo.BETA=big"], "BETA is 'big', not float"),
        (["show", "nano", "--scale", "huge"], "no scale 'huge'"),
    ],
)
def test_wrong_requests_exit_with_2_and_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path))
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_list_and_show(capsys):
    assert command.main(["list"]) == 0
    assert command.main(["show", "nano"]) == 0
    text = capsys.readouterr().out
    assert "gsm8k" in text and "06_grpo  (notebook 06_grpo" in text


def test_seeds_and_scales_have_folders_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("TRLM_RUNS_DIR", str(tmp_path))
    folders = [pipeline.run_folder("nano", s, n) for s, n in (("nano", 0), ("nano", 2))]
    assert folders == [tmp_path / "nano", tmp_path / "nano" / "seed-2"]
    assert pipeline.run_folder("trlm", "full", 0) == tmp_path / "trlm-full"


def test_several_seeds_are_a_list():
    assert command.parse_seeds("0,1,2") == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "a", "-1", "0,,1", "1,1"])
def test_nonsense_for_seeds_is_refused_in_one_line(text, capsys):
    assert command.main(["run", "nano", f"--seed={text}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --seed {text}: ")
