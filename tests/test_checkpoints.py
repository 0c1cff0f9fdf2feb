"""Checkpoints: which are whole, and that a resumed training is the undisturbed one."""

import json

import pytest
import torch

from trlm_utils.machine import choose_precision
from trlm_utils.training import checkpoints, configuration, sft, speed

STEPS = 8


def write_checkpoint(folder, step, model):
    path = folder / f"checkpoint-{step}"
    model.save_pretrained(path)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (path / name).write_bytes(b"x")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def test_half_written_checkpoints_are_passed_over(tmp_path, model):
    good = write_checkpoint(tmp_path, 5, model)
    no_state = write_checkpoint(tmp_path, 10, model)
    (no_state / "trainer_state.json").unlink()
    cut = write_checkpoint(tmp_path, 100, model)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "checkpoint-notes").mkdir()
    assert checkpoints.whole_checkpoints(tmp_path) == [good]


def test_checkpoints_are_ordered_by_step(tmp_path, model):
    for step in (100, 20):
        write_checkpoint(tmp_path, step, model)
    assert [p.name for p in checkpoints.whole_checkpoints(tmp_path)] == [
        "checkpoint-20",
        "checkpoint-100",
    ]


ALONE = ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
RANKS = ["optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"]


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("adapters", ["adapter_model.bin", *ALONE]),
        ("ddp", ["pytorch_model.bin", *RANKS]),
        ("deepspeed", ["latest", "global_step7/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"]),
        ("fsdp, whole", ["pytorch_model_fsdp.bin", "optimizer.bin", "scheduler.pt"]),
        (
            "fsdp, shards",
            ["pytorch_model_fsdp_0/.metadata", "optimizer_0/.metadata", "scheduler.pt"],
        ),
        (
            "fsdp, by rank",
            [f"{n}_0_rank1.bin" for n in ("pytorch_model_fsdp", "optimizer")] + ["scheduler.pt"],
        ),
    ],
)
def test_each_layout_is_whole_and_without_any_of_its_files_not(
    layout, names, tmp_path, monkeypatch
):
    """Names as transformers 5.23 and accelerate 1.15 write them.

    A training with FSDP reads no others' checkpoints, and no other reads FSDP's.
    """
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str("fsdp" in layout).lower())

    def write(folder, chosen):
        for name in [*chosen, "trainer_state.json"]:
            path = folder / "checkpoint-7" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("global_step7" if name == "latest" else "{}")
        return checkpoints.whole_checkpoints(folder) != []

    assert write(tmp_path / "all", names)
    for left_out in names:
        if left_out == "rng_state_1.pth":  # how many ranks there were is written nowhere
            continue
        rest = [name for name in names if name != left_out]
        if left_out == "rng_state_0.pth":
            rest.remove("rng_state_1.pth")
        assert not write(tmp_path / left_out.replace("/", "_"), rest), left_out
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str("fsdp" not in layout).lower())
    assert checkpoints.whole_checkpoints(tmp_path / "all") == []


def test_weights_in_several_files_are_whole_only_with_all_of_them(tmp_path, model):
    path = write_checkpoint(tmp_path, 5, model)
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    named = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    assert checkpoints.whole_checkpoints(tmp_path) == []
    (path / named["b"]).write_bytes((path / named["a"]).read_bytes())
    assert checkpoints.whole_checkpoints(tmp_path) == [path]


class Killed(Exception):
    """What stops a training in these tests."""


@pytest.fixture
def training(tmp_path, tokenizer):
    """A function that trains `STEPS` steps in a folder, or up to ``killed_at``."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig

    from trlm_utils import models
    from trlm_utils.training import callbacks

    class Kill(TrainerCallback):
        def __init__(self, step):
            self.step = step

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == self.step:
                raise Killed

    texts = [{"text": f"{i} + {i} = {2 * i}. " * (1 + i % 3)} for i in range(2 * STEPS)]

    def train(name, killed_at=None, steps=STEPS):
        torch.manual_seed(0)
        model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
        settings = configuration.common_settings(tmp_path / name, choose_precision("cpu"), 0)
        config = configuration.make_config(
            SFTConfig,
            **settings | {"logging_steps": 3},
            per_device_train_batch_size=2,
            max_steps=steps,
            learning_rate=0.01,
            save_strategy="steps",
            save_steps=2,
        )
        trainer = sft.make_trainer(
            model, config, train_dataset=Dataset.from_list(texts), processing_class=tokenizer
        )
        callbacks.quiet(trainer, ["loss"])
        if killed_at is not None:
            trainer.add_callback(Kill(killed_at))
        return checkpoints.train_or_resume(trainer), trainer

    return train


def same_training(one, other):
    """Whether two trainers have the same weights and, run times aside, the same log."""

    weights = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    logs = (trainer.state.log_history[:-1] for trainer in (one, other))  # the last is about time
    return next(logs) == next(logs) and all(torch.equal(a, b) for a, b in weights)


def frame(trainer):
    import pandas as pd

    return pd.DataFrame(trainer.state.log_history)


@pytest.mark.parametrize("killed_at", [4, 5])
def test_resumed_is_undisturbed_and_counts_all_tokens(training, killed_at):
    """Logs come every 3 steps and checkpoints every 2: nothing between them is lost."""
    start, whole = training("whole")
    assert start == "started at step 0"
    with pytest.raises(Killed):
        training("killed", killed_at)
    start, resumed = training("killed")
    assert start == "went on from step 4"
    assert same_training(whole, resumed)
    assert speed.tokens_seen(frame(resumed)) == speed.tokens_seen(frame(whole)) > 0


def test_the_speed_of_a_resumed_training_is_that_of_its_own_steps(training):
    with pytest.raises(Killed):
        training("killed", 6)
    _, resumed = training("killed")
    rows = resumed.state.log_history
    counted = {row["step"]: row["num_tokens"] for row in rows if "num_tokens" in row}
    seconds = rows[-1]["train_runtime"]
    expected = (speed.tokens_seen(frame(resumed)) - counted[6]) / seconds
    assert speed.training_speed(frame(resumed)) == pytest.approx(expected)


def test_a_training_that_had_ended_is_not_repeated(training):
    _, whole = training("run")
    after = torch.get_rng_state()
    start, again = training("run", killed_at=STEPS)  # the first step would raise
    assert start == f"had ended at step {STEPS}"
    assert same_training(whole, again)
    assert again.state.log_history[-1] == whole.state.log_history[-1]
    assert again.state.global_step == STEPS
    assert torch.equal(after, torch.get_rng_state())


def test_killed_before_the_last_line_of_the_log_only_the_run_time_is_lost(training, tmp_path):
    _, whole = training("run")
    (tmp_path / "run" / "trainer_state.json").unlink()
    start, again = training("run", killed_at=STEPS)
    assert start == f"had ended at step {STEPS}"
    assert again.state.log_history == whole.state.log_history[:-1]
    assert speed.training_speed(frame(again)) == 0.0


def test_more_steps_than_before_go_on_from_the_end(training):
    training("run")
    start, longer = training("run", steps=STEPS + 2)
    assert start == f"went on from step {STEPS}"
    assert longer.state.global_step == STEPS + 2


def test_half_written_checkpoints_are_kept_out_of_the_trainers_sight(training, tmp_path):
    with pytest.raises(Killed):
        training("run", 5)
    folder = tmp_path / "run"
    half = folder / "checkpoint-4"
    (half / "trainer_state.json").unlink()
    weights = (half / "model.safetensors").read_bytes()
    start, _ = training("run")
    assert start == "went on from step 2"
    assert (folder / "partial" / "checkpoint-4" / "model.safetensors").read_bytes() == weights
