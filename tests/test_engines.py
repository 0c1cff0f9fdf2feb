"""Engines that draw completions: their settings, and the correction for a sampler that differs."""

import importlib.util

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig

from trlm_utils import engines, generation, machine, models, samplers
from trlm_utils.files import CourseError
from trlm_utils.inference_copy import InferenceCopy
from trlm_utils.rollouts import Rollouts, logprobs_of
from trlm_utils.training import configuration


@pytest.fixture
def vllm_is_here(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name == "vllm" else found(name)
    )


@pytest.mark.parametrize(
    "name, expected",
    [
        ("course", {"use_vllm": False, "use_transformers_continuous_batching": False}),
        ("generate", {"use_vllm": False, "use_transformers_continuous_batching": False}),
        ("transformers", {"use_vllm": False, "use_transformers_continuous_batching": True}),
        ("vllm", {"use_vllm": True, "vllm_mode": "colocate"}),
        ("vllm_server", {"use_vllm": True, "vllm_mode": "server"}),
    ],
)
def test_trl_takes_every_engines_settings(name, expected, vllm_is_here, tmp_path):
    exact = machine.Precision(False, False, "test")
    config = configuration.make_config(
        GRPOConfig,
        **configuration.common_settings(tmp_path, exact, 0),
        **configuration.grpo_batch(2, 4, 8),
        **engines.settings(name),
    )
    assert {key: getattr(config, key) for key in expected} == expected
    assert config.vllm_importance_sampling_correction
    assert config.vllm_importance_sampling_clip_max == engines.LARGEST


def test_continuous_batching_leaves_a_cpus_memory_to_others(monkeypatch):
    """By default it takes nearly all of what is free, and clears it at every call."""
    assert engines.settings("transformers")["transformers_continuous_batching_config"] == {
        "max_memory_percent": samplers.CPU_SHARE
    }
    monkeypatch.setattr(machine, "torch_device", lambda: torch.device("cuda"))
    assert "transformers_continuous_batching_config" not in engines.settings("transformers")


def test_rloo_takes_an_engine_and_knows_no_correction(tmp_path):
    exact = machine.Precision(False, False, "test")
    config = configuration.make_config(
        RLOOConfig,
        **configuration.common_settings(tmp_path, exact, 0),
        **configuration.grpo_batch(2, 4, 8),
        **engines.settings("transformers", corrected=None),
    )
    assert config.use_transformers_continuous_batching and not config.use_vllm


def test_without_vllm_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CourseError, match="needs the package vllm.*or course"):
        engines.settings("vllm")


def test_an_unknown_engine_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'fast': write one of course, generate, transformers"):
        engines.settings("fast")


def test_the_trainer_is_trls_where_the_policy_itself_draws(tokenizer):
    assert engines.trainer_class(None) is GRPOTrainer
    assert engines.trainer_class(Rollouts(tokenizer, 4, corrected=True)) is GRPOTrainer
    assert engines.trainer_class(Rollouts(tokenizer, 4, dtype="bfloat16")) is GRPOTrainer
    copied = Rollouts(tokenizer, 4, dtype="bfloat16", corrected=True)
    assert engines.trainer_class(copied) is not GRPOTrainer


@pytest.mark.parametrize("numbers", [1, 2**20])  # one row at a time; all at once
def test_log_probabilities_are_those_of_the_tokens_drawn(model, numbers):
    prompts, completions = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13]]
    found = logprobs_of(model, prompts, completions, temperature=0.7, numbers=numbers)
    for prompt, completion, row in zip(prompts, completions, found, strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([prompt + completion])).logits[0].float() / 0.7
        places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
        by_hand = [
            scores[at].log_softmax(-1)[token].item()
            for at, token in zip(places, completion, strict=True)
        ]
        assert row == pytest.approx(by_hand, abs=1e-5)


def test_continuous_batching_in_half_precision_is_refused():
    with pytest.raises(ValueError, match="ROLLOUTS transformers needs fp32"):
        configuration.make_config(GRPOConfig, bf16=True, **engines.settings("transformers"))


# --- a sampler that is wrong on purpose -------------------------------------------

PAID = {"a": 1.0, "b": 0.8, "c": 0.0}  # reward of a completion, which is one token
FIRST = (0.15, 0.70, 0.15)  # their probabilities before training


class Forgotten(InferenceCopy):
    """A copy whose weights are never brought up to date: it draws as the first policy did."""

    def of(self, policy):
        return self.model if self.model is not None else super().of(policy)


def pay(completions, **_):
    return [PAID.get(c[0]["content"].strip(), 0.0) for c in completions]


def started(tokenizer, ids, prompt):
    """A small policy that answers with FIRST's probabilities."""
    torch.manual_seed(0)
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
    steps = torch.optim.Adam(model.parameters(), lr=1e-2)
    goal = torch.zeros(len(tokenizer))
    goal[ids] = torch.tensor(FIRST)
    for _ in range(150):
        scores = model(torch.tensor([prompt])).logits[0, -1].float()
        loss = -(goal * scores.log_softmax(-1)).sum()
        steps.zero_grad()
        loss.backward()
        steps.step()
    return model


def trained(tokenizer, folder, seed, corrected):
    """Probability of the best answer after GRPO with the forgotten sampler, and the log."""
    from trlm_utils import chat

    messages = [{"role": "user", "content": "a b c"}]
    text = chat.render(tokenizer, messages, prompt=True)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in PAID]
    model = started(tokenizer, ids, prompt)
    draw = Rollouts(tokenizer, 1, dtype="bfloat16", corrected=corrected)
    draw.copy = Forgotten("bfloat16")
    config = configuration.make_config(
        GRPOConfig,
        **configuration.common_settings(folder, machine.Precision(False, False, ""), seed),
        **configuration.grpo_batch(4, 16, 64),
        **engines.settings("course", corrected) | {"vllm_importance_sampling_clip_max": 10.0},
        max_steps=60,
        max_completion_length=1,
        loss_type="dr_grpo",
        scale_rewards="none",
        beta=0.0,
        learning_rate=5e-3,
        lr_scheduler_type="constant",
        save_strategy="no",
    )
    trainer = engines.trainer_class(draw)(
        model,
        reward_funcs=pay,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": messages}] * 8),
        processing_class=tokenizer,
        rollout_func=draw,
    )
    trainer.train()
    with generation.evaluating(model):
        chances = model(torch.tensor([prompt])).logits[0, -1].float().softmax(-1)
    return [chances[i].item() for i in ids], trainer.state.log_history


def test_the_correction_restores_what_a_wrong_sampler_takes(tokenizer, tmp_path):
    """The sampler draws b most of the time. Weighed, a is learned; unweighed, b is."""
    for seed in range(3):
        weighed, log = trained(tokenizer, tmp_path, seed, True)
        plain, _ = trained(tokenizer, tmp_path, seed, False)
        assert weighed[0] > 0.8 > 0.5 > plain[0], (seed, weighed, plain)
    assert {"sampling/left_out", "sampling/importance_sampling_ratio/mean"} <= log[0].keys()
