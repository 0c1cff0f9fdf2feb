"""The runner's decisions, without running notebooks (test_sequence.py does that)."""

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


def test_finished_means_same_inputs_and_unharmed_outputs(tmp_path):
    finish(tmp_path, "digest")
    assert digest.is_finished(tmp_path, "digest")
    assert not digest.is_finished(tmp_path, "other")
    write_text(tmp_path / "data" / "x.jsonl", "damaged")
    assert not digest.is_finished(tmp_path, "digest")


def test_an_interrupted_stage_goes_on_with_the_same_inputs(plan, tmp_path, capsys):
    folder = tmp_path / "02_sft_stage1"
    for _ in range(2):
        pipeline.prepare_folder(folder, plan.stages[2], {"parameter A": "1"})
        write_text(folder / "checkpoints" / "c", "x")
    assert (folder / "checkpoints" / "c").exists() and capsys.readouterr().out == ""
    assert digest.read_manifest(folder)["status"] == "running"


def test_unfinished_work_with_other_inputs_is_moved_aside_and_named(plan, tmp_path, capsys):
    folder = tmp_path / "02_sft_stage1"
    for value in "123":
        found = {"parameter A": value, "module b": "same"}
        pipeline.prepare_folder(folder, plan.stages[2], found)
        write_text(folder / "checkpoints" / "c", value)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].strip().startswith("parameter A changed: unfinished work is kept in")
    assert told[0].endswith("--resume-from .unfinished/02_sft_stage1-1")
    kept = [tmp_path / ".unfinished" / f"02_sft_stage1-{n}" for n in (1, 2)]
    assert [(k / "checkpoints" / "c").read_text() for k in kept] == ["1", "2"]


@pytest.mark.parametrize("fresh", [True, False])
def test_finished_results_that_give_way_are_all_kept(plan, tmp_path, capsys, fresh):
    folder = tmp_path / "02_sft_stage1"
    for value in "12":
        finish(folder, digest.digest_of({"a": "same"}) if fresh else value)
        pipeline.prepare_folder(folder, plan.stages[2], {"a": "same"}, fresh=fresh)
    for n in (1, 2):
        assert (tmp_path / ".previous" / f"02_sft_stage1-{n}" / "data" / "x.jsonl").exists()
    assert "(2 kept there, 0 MiB in all)" in capsys.readouterr().out.splitlines()[1]


def test_a_finished_result_whose_files_were_damaged_gives_way_too(plan, tmp_path):
    """Else notebook 07 would go on with damaged records."""
    folder, found = tmp_path / "07_evaluation", {"a": "same"}
    finish(folder, digest.digest_of(found))
    write_text(folder / "data" / "x.jsonl", "damaged")
    pipeline.prepare_folder(folder, plan.stages[-1], found)
    assert not (folder / "data").exists()
    assert (tmp_path / ".previous" / "07_evaluation-1" / "data" / "x.jsonl").exists()


def test_resume_from_puts_unfinished_work_back_and_records_what_differed(plan, tmp_path):
    folder, stage = tmp_path / "02_sft_stage1", plan.stages[2]
    pipeline.prepare_folder(folder, stage, {"parameter A": "1", "module b": "1"})
    write_text(folder / "checkpoints" / "c", "first")
    pipeline.prepare_folder(folder, stage, {"parameter A": "2", "module b": "1"})
    write_text(folder / "checkpoints" / "c", "second")

    named = pipeline.find_unfinished(".unfinished/02_sft_stage1-1", tmp_path, plan.stages)
    assert named == ("02_sft_stage1", tmp_path / ".unfinished" / "02_sft_stage1-1")
    now = {"parameter A": "3", "module b": "1"}
    pipeline.prepare_folder(folder, stage, now, resume=named[1])
    assert (folder / "checkpoints" / "c").read_text() == "first"
    second = tmp_path / ".unfinished" / "02_sft_stage1-2"
    assert (second / "checkpoints" / "c").read_text() == "second"
    manifest = digest.read_manifest(folder)
    assert manifest["inputs"] == digest.digest_of(now)
    assert [entry["changed"] for entry in manifest["resumed_from"]] == [["parameter A"]]

    # interrupted once more it goes on as it is, and remembers
    pipeline.prepare_folder(folder, stage, now)
    assert digest.read_manifest(folder)["resumed_from"] == manifest["resumed_from"]


def test_resume_from_the_stages_own_folder_leaves_it_in_place(plan, tmp_path):
    folder, stage = tmp_path / "02_sft_stage1", plan.stages[2]
    pipeline.prepare_folder(folder, stage, {"notebook": "1"})
    write_text(folder / "checkpoints" / "c", "x")
    named = pipeline.find_unfinished(str(folder), tmp_path, plan.stages)
    pipeline.prepare_folder(folder, stage, {"notebook": "2"}, resume=named[1])
    assert (folder / "checkpoints" / "c").exists()
    assert digest.read_manifest(folder)["resumed_from"][0]["changed"] == ["notebook"]
    assert not (tmp_path / ".unfinished").exists()


def test_resume_from_anything_else_is_refused_in_one_line(plan, tmp_path):
    finish(tmp_path / "02_sft_stage1", "d")
    (tmp_path / ".unfinished" / "elsewhere-1").mkdir(parents=True)
    (tmp_path / "far" / "away" / "02_sft_stage1").mkdir(parents=True)
    for name, message in (
        ("missing", "no such folder"),
        (str(tmp_path / "far/away/02_sft_stage1"), "no such folder"),
        ("02_sft_stage1", "nothing to go on with"),
        (".unfinished/elsewhere-1", "stage elsewhere is none of those to run"),
    ):
        with pytest.raises(RecipeError, match=message):
            pipeline.find_unfinished(name, tmp_path, plan.stages)


def test_from_and_only(plan, tmp_path):
    names = [s.stage for s in pipeline.select_stages(plan, tmp_path)]
    assert len(names) == 9
    for name in names:
        finish(tmp_path / name, "d")
    later = pipeline.select_stages(plan, tmp_path, start="06_grpo")
    assert [s.stage for s in later] == ["06_grpo", "07_evaluation", "08_use_it"]
    (one,) = pipeline.select_stages(plan, tmp_path, only="04_dpo")
    assert one.stage == "04_dpo"


def test_of_a_continued_recipe_only_what_is_read_is_run(tmp_path):
    plan = recipes.load_plan("controls")
    assert plan.spare == ("04_dpo", "05_grpo_rewards", "06_grpo", "07_evaluation", "08_use_it")
    names = [s.stage for s in pipeline.select_stages(plan, tmp_path)]
    assert names[:5] == [
        "00_start_here",
        "01_data_curation",
        "02_sft_stage1",
        "03_sft_stage2",
        "ctl-accuracy",
    ]
    finish(tmp_path / "07_evaluation", "d")  # it is there: it is kept up to date
    assert "07_evaluation" in [s.stage for s in pipeline.select_stages(plan, tmp_path)]
    assert recipes.load_plan("nano").spare == ()


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
    kept = tmp_path / ".previous" / "00_start_here-1"
    assert digest.is_finished(kept, "kept")


def test_kernels_get_no_secrets_unless_the_hub_is_needed(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecretsecret")
    with kernel.environment(kernel.kernel_environment(needs_hub=False)):
        assert "HF_TOKEN" not in os.environ
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["HF_TOKEN"] == "hf_secretsecretsecretsecret"
    with kernel.environment(kernel.kernel_environment(needs_hub=True)):
        assert "HF_TOKEN" in os.environ


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ({}, set()),
        ({"TRACKER": "tensorboard", "PUSH_TO": ""}, set()),
        ({"TRACKER": "wandb"}, {"WANDB_API_KEY"}),
        ({"PUSH_TO": "me/tiny"}, {"HF_TOKEN"}),
    ],
)
def test_a_stage_gets_the_secret_that_its_tracker_or_push_needs(monkeypatch, parameters, kept):
    secrets = {"HF_TOKEN", "WANDB_API_KEY", "OTHER_SECRET"}
    for name in secrets:
        monkeypatch.setenv(name, "x" * 20)
    for name in ("HF_HUB_OFFLINE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with kernel.environment(kernel.kernel_environment(False, parameters)):
        assert secrets & set(os.environ) == kept
        assert ("WANDB_MODE" in os.environ) == ("WANDB_API_KEY" not in kept)
        assert ("HF_HUB_OFFLINE" in os.environ) == ("HF_TOKEN" not in kept)


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
        (["run", "nano", "--resume-from", "x"], "--resume-from x: no such folder"),
        (["run", "nano", "--resume-from", "x", "--seed=0,1"], "give one recipe and one --seed"),
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
