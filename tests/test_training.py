"""Precision, configuration, batch arithmetic, speeds, callbacks."""

import pytest
from trl import DPOConfig, GRPOConfig, SFTConfig

from trlm_utils.machine import choose_precision
from trlm_utils.training import callbacks, configuration, speed


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [
        ("cpu", None, "fp32"),
        ("mps", None, "fp32"),
        ("cuda", (7, 0), "fp16"),
        ("cuda", (7, 5), "fp16"),
        ("cuda", (8, 0), "bf16"),
        ("cuda", (9, 0), "bf16"),
        ("rocm", None, "bf16"),  # as the CPU here can compute in it (test_rocm)
        ("tpu", None, "fp32"),
    ],
)
def test_precision(device, capability, expected):
    assert choose_precision(device, capability).name == expected


def test_cuda_without_its_capability_is_refused():
    with pytest.raises(ValueError, match="capability"):
        choose_precision("cuda")


@pytest.mark.parametrize("config_class", [SFTConfig, DPOConfig, GRPOConfig])
def test_common_settings_raise_nothing_on_cpu(config_class, tmp_path):
    settings = configuration.common_settings(tmp_path, choose_precision("cpu"), 0)
    config = configuration.make_config(config_class, **settings)
    assert (config.bf16, config.fp16, config.report_to) == (False, False, [])


@pytest.mark.parametrize(
    ("config_class", "name", "advice"),
    [
        (SFTConfig, "max_seq_length", "max_length"),
        (SFTConfig, "warmup_ratio", "warmup_steps"),
        (DPOConfig, "max_prompt_length", "filter long prompts"),
        (SFTConfig, "learning_rte", "learning_rate"),
    ],
)
def test_renamed_settings_say_what_to_write(config_class, name, advice):
    with pytest.raises(ValueError, match=advice):
        configuration.make_config(config_class, **{name: 1})


def test_grpo_batch_is_always_accepted_by_trl(tmp_path):
    common = configuration.common_settings(tmp_path, choose_precision("cpu"), 0)
    for prompts in (1, 2, 3, 8):
        for group in (2, 4, 8):
            for micro in range(1, prompts * group + 1):
                if (prompts * group) % micro:
                    continue
                batch = configuration.grpo_batch(prompts, group, micro)
                config = configuration.make_config(GRPOConfig, **common, **batch)
                assert config.generation_batch_size == prompts * group


@pytest.mark.parametrize(
    ("args", "message"),
    [((4, 1, 4), "at least 2"), ((4, 4, 5), "cannot be split"), ((0, 4, 1), "cannot be")],
)
def test_impossible_batches_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        configuration.grpo_batch(*args)


def test_tokens_are_the_last_count():
    import pandas as pd

    assert speed.tokens_seen(pd.DataFrame({"num_tokens": [10.0, None, 25.0, None]})) == 25
    assert speed.tokens_seen(pd.DataFrame({"loss": [1.0]})) == 0
    assert speed.tokens_seen(pd.DataFrame({"num_tokens": [None]}, dtype=float)) == 0


def test_speeds_are_those_of_the_process_that_ended_the_training():
    import pandas as pd

    rows = [{"num_tokens": 40.0}, {"num_tokens": 100.0}, {"train_runtime": 4.0}]
    assert speed.training_speed(pd.DataFrame(rows)) == 25.0
    rows[-1]["tokens_before"] = 40
    assert speed.training_speed(pd.DataFrame(rows)) == 15.0
    assert speed.training_speed(pd.DataFrame(rows[:-1])) == 0.0  # killed before it knew
    assert speed.rollout_speed(pd.DataFrame(rows)) == 0.0
    rows[-1]["rollout_tokens_per_second"] = 7.0
    assert speed.rollout_speed(pd.DataFrame(rows)) == 7.0


def test_held_out_accuracy_is_logged_without_drawing_random_numbers(model, tokenizer, monkeypatch):
    import torch
    from transformers import TrainerState

    from trlm_utils import chat, generation

    rows = [{"prompt": chat.to_prompt("?"), "answer": str(i)} for i in range(4)]
    said = [generation.Sample("The answer is 1.", 5, True)] * 4
    monkeypatch.setattr(generation, "sample", lambda *a, **k: said if k["temperature"] == 0 else 1)
    callback = callbacks.held_out_accuracy(rows, tokenizer, every=2, max_new_tokens=8)
    before, state = torch.get_rng_state(), TrainerState()
    callback.on_train_begin(None, state, None, model=model)
    for state.global_step in (1, 2, 3):
        callback.on_step_end(None, state, None, model=model)
    assert [(e["step"], e["held_out_accuracy"]) for e in state.log_history] == [
        (0, 1 / 4),
        (2, 1 / 4),
    ]
    assert torch.equal(before, torch.get_rng_state())


def test_replies_to_held_out_prompts_are_kept_up_to_the_step_that_is_resumed(
    tmp_path, model, tokenizer, monkeypatch
):
    from transformers import TrainerState

    from trlm_utils import chat, generation
    from trlm_utils.files import read_rows

    def said(model, tokenizer, prompts, **settings):
        return [generation.Sample(f"It is {settings['seed']}.", 5, True)] * len(prompts)

    monkeypatch.setattr(generation, "sample", said)
    rows = [{"prompt": chat.to_prompt(f"{i}?"), "answer": "2"} for i in range(3)]
    path = tmp_path / "data" / "replies.jsonl"

    def trained(first, last):
        state = TrainerState(global_step=first)
        look = callbacks.held_out_accuracy(rows, tokenizer, 2, 8, replies=path, shown=2)
        look.on_train_begin(None, state, None, model=model)
        for state.global_step in range(first + 1, last + 1):
            look.on_step_end(None, state, None, model=model)
        return [(r["step"], r["question"], r["reply"], r["right"]) for r in read_rows(path)]

    def at(step):
        return [(step, f"{i}?", f"It is {step}.", step == 2) for i in (0, 1)]

    assert trained(0, 5) == [*at(0), *at(2), *at(4)]
    assert trained(3, 4) == [*at(0), *at(2), *at(4)]  # step 4 once, although it was reached twice
    assert trained(0, 1) == at(0)  # a new training keeps nothing of the old one


def test_the_kept_replies_are_to_prompts_from_short_to_long(
    tmp_path, model, tokenizer, monkeypatch
):
    from transformers import TrainerState

    from trlm_utils import chat, generation
    from trlm_utils.files import read_rows

    said = [generation.Sample(f"It is {i}.", 5, True) for i in range(5)]
    monkeypatch.setattr(generation, "sample", lambda *a, **k: said)
    asked = [{"prompt": chat.to_prompt("word " * n), "answer": "2"} for n in (5, 1, 3, 4, 2)]
    path = tmp_path / "replies.jsonl"
    look = callbacks.held_out_accuracy(asked, tokenizer, 2, 8, replies=path, shown=2)
    look.on_train_begin(None, TrainerState(), None, model=model)
    # two of five: every second one, beginning with the shortest
    assert [r["reply"] for r in read_rows(path)] == ["It is 1.", "It is 2."]


def test_the_model_of_every_checkpoint_is_kept(tmp_path, model, tokenizer):
    from transformers import TrainerState

    from trlm_utils import models

    keep = callbacks.kept_checkpoints(tmp_path, tokenizer)
    keep.on_save(None, TrainerState(global_step=50), None, model=model)
    loaded, _ = models.load_model(tmp_path / "step_50" / "model")
    assert models.trainable(loaded) == models.trainable(model)
    # killed between a checkpoint and its copy, training goes on from the checkpoint
    keep.on_train_begin(None, TrainerState(global_step=60), None, model=model)
    assert (tmp_path / "step_60" / "model").is_dir()
    keep.on_train_begin(None, TrainerState(global_step=0), None, model=model)
    assert not (tmp_path / "step_0").exists()
