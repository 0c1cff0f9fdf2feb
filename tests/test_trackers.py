"""Trackers: they get what the trainer logs and change nothing; W&B and trackio stay here."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trlm_utils import chat, generation, models
from trlm_utils.machine import choose_precision
from trlm_utils.runner import recipes
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.stage import Stage
from trlm_utils.training import callbacks, checkpoints, configuration, sft, trackers

ACCURACY = 0.25  # of the replies below
STEPS = 6


def needs(name):
    return pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
    )


class Killed(Exception):
    """What stops a training in these tests."""


def train(run, tokenizer, tracker="none", killed_at=None, tell=True):
    """Train a tiny model as the notebooks do; returns log and weights.

    Logs every second step, saves after 2 and 4, asks held-out questions at 0, 3 and 6.
    """
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == killed_at:
                raise Killed

    stage = Stage("06_grpo", "nano", 0, run)
    torch.manual_seed(0)
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
    config = configuration.make_config(
        SFTConfig,
        **configuration.common_settings(stage.checkpoints, choose_precision("cpu"), 0)
        | {"logging_steps": 2}
        | trackers.settings(tracker, stage),
        per_device_train_batch_size=2,
        max_steps=STEPS,
        learning_rate=0.01,
        save_strategy="steps",
        save_steps=2,
    )
    texts = [{"text": f"{i} + {i} = {2 * i}. " * (1 + i % 3)} for i in range(2 * STEPS)]
    trainer = sft.make_trainer(
        model, config, train_dataset=Dataset.from_list(texts), processing_class=tokenizer
    )
    rows = [{"prompt": chat.to_prompt("?"), "answer": str(i)} for i in range(4)]
    look = callbacks.held_out_accuracy(rows, tokenizer, 3, 8, trainer=trainer if tell else None)
    for callback in (look, Kill()):
        trainer.add_callback(callback)
    callbacks.quiet(trainer, ["loss"])
    checkpoints.train_or_resume(trainer)
    return trainer.state.log_history, [w.tolist() for w in model.state_dict().values()]


@pytest.fixture(autouse=True)
def replies(monkeypatch):
    """Every held-out question is answered alike; a quarter of them is right."""
    said = [generation.Sample("The answer is 1.", 5, True)] * 4
    monkeypatch.setattr(generation, "sample", lambda *a, **k: said)
    for name in ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def events(run):
    """TensorBoard's runs: folder -> name of a curve -> (step, value) in order of writing."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted((run / "06_grpo" / "tracker").iterdir()):
        read = EventAccumulator(str(folder))
        read.Reload()
        curves = read.Tags()["scalars"]
        found[folder.name] = {n: [(e.step, e.value) for e in read.Scalars(n)] for n in curves}
    return found


@needs("tensorboard")
def test_a_tracker_gets_the_log_and_changes_nothing(tmp_path, tokenizer):
    log, weights = train(tmp_path / "a", tokenizer)
    tracked = train(tmp_path / "b", tokenizer, "tensorboard")
    assert tracked[1] == weights
    assert tracked[0][:-1] == log[:-1]  # the last row is about time
    (curves,) = events(tmp_path / "b").values()
    losses = [(row["step"], row["loss"]) for row in log if "loss" in row]
    assert [step for step, _ in losses] == [2, 4, 6]
    assert [step for step, _ in curves["train/loss"]] == [step for step, _ in losses]
    single = [value for _, value in curves["train/loss"]]  # TensorBoard keeps 32 bits
    assert single == pytest.approx([value for _, value in losses], rel=1e-6)
    assert curves["train/held_out_accuracy"] == [(0, ACCURACY), (3, ACCURACY), (6, ACCURACY)]


@needs("tensorboard")
def test_a_resumed_training_goes_on_in_its_run_and_a_new_one_has_its_own(
    tmp_path, tokenizer, monkeypatch
):
    with pytest.raises(Killed):
        train(tmp_path, tokenizer, "tensorboard", killed_at=5)
    monkeypatch.setattr(trackers.time, "strftime", lambda *_: "later")
    train(tmp_path, tokenizer, "tensorboard")
    (curves,) = events(tmp_path).values()
    assert [step for step, _ in curves["train/loss"]] == [2, 4, 6]
    assert [step for step, _ in curves["train/held_out_accuracy"]] == [0, 3, 6]
    stage = Stage("06_grpo", "nano", 0, tmp_path)
    for place in stage.checkpoints.iterdir():  # as when a stage is finished
        place.rename(tmp_path / place.name)
    assert trackers.run_name(stage) == "nano/06_grpo/seed-0/later"


def test_the_accuracy_takes_nothing_from_the_row_of_its_step(tmp_path, tokenizer):
    """``trainer.log`` would have taken the token count, and logged no loss, at step 6."""
    alone, _ = train(tmp_path / "a", tokenizer, tell=False)
    told, _ = train(tmp_path / "b", tokenizer)
    looks = [row for row in told if "held_out_accuracy" in row]
    assert [set(row) for row in looks] == [{"held_out_accuracy", "epoch", "step"}] * 3
    for row in looks:
        del row["epoch"]
    assert told[:-1] == alone[:-1]
    assert "loss" in told[-2] and "num_tokens" in told[-2] and told[-2]["step"] == STEPS


def in_a_process(run, tracker):
    """`train` in a new process, where the tracker's modules are imported as under the runner."""
    script = (
        "import sys, json; from pathlib import Path; import test_trackers as t\n"
        "from trlm_utils import nanoworld, tokenization, generation\n"
        "said = [generation.Sample('The answer is 1.', 5, True)] * 4\n"
        "generation.sample = lambda *a, **k: said\n"
        "tokenizer = tokenization.build_tokenizer(nanoworld.sample_text(300))\n"
        "found = t.train(Path(sys.argv[1]), tokenizer, sys.argv[2])\n"
        "Path(sys.argv[1], 'found.json').write_text(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run), tracker],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((run / "found.json").read_text())


@needs("trackio")
def test_trackio_writes_into_the_runs_folder(tmp_path, tokenizer):
    log, weights = train(tmp_path / "a", tokenizer)
    tracked = in_a_process(tmp_path, "trackio")
    assert tracked[1] == weights and tracked[0][:-1] == log[:-1]
    script = (
        "from trackio.sqlite_storage import SQLiteStorage as S; import json\n"
        "(run,) = S.get_run_records('nano')\n"
        "print(json.dumps([run['name'], S.get_logs('nano', run['name'], run_id=run['id'])]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")},
        capture_output=True,
        text=True,
        check=True,
    )
    name, rows = json.loads(done.stdout.splitlines()[-1])
    assert name.startswith("nano/06_grpo/seed-0/")
    told = [(r["train/global_step"], r["train/loss"]) for r in rows if "train/loss" in r]
    assert told == [(row["step"], row["loss"]) for row in log if "loss" in row]
    assert sum("train/held_out_accuracy" in row for row in rows) == 3


@needs("wandb")
def test_wandb_stays_offline_without_a_key(tmp_path, tokenizer):
    log, weights = train(tmp_path / "a", tokenizer)
    tracked = in_a_process(tmp_path, "wandb")
    assert tracked[1] == weights and tracked[0][:-1] == log[:-1]
    (folder,) = (tmp_path / "06_grpo" / "tracker" / "wandb").glob("offline-run-*")
    (kept,) = folder.glob("*.wandb")
    content = kept.read_bytes()
    for name in (b"train/loss", b"train/held_out_accuracy", b"nano/06_grpo/seed-0/"):
        assert name in content


def test_wandb_goes_online_with_a_key(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "check", lambda name: None)
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_PROJECT", "WANDB_SILENT"):
        monkeypatch.setenv(name, "")  # what is set below is taken back at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.delenv("WANDB_MODE")
    found = trackers.settings("wandb", Stage("04_dpo", "nano", 2, tmp_path))
    assert os.environ["WANDB_MODE"] == "online"
    assert found["run_name"].startswith("nano/04_dpo/seed-2/")
    assert "0" * 40 not in str(found)


@pytest.mark.parametrize(
    ("tracker", "said"),
    [
        ("wandb", "TRACKER is 'wandb', which is not installed: pip install wandb"),
        ("mlflow", "TRACKER is 'mlflow': is one of none, trackio, wandb, tensorboard"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_anything_runs(monkeypatch, tracker, said):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        recipes.load_plan("nano", overrides=[f"04_dpo.TRACKER={tracker}"])
    assert str(caught.value) == f"stage 04_dpo: {said}"
