"""Pre-flight: each fault is found, and nothing else is called one."""

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, GRPOConfig, SFTConfig, SFTTrainer

from trlm_utils import chat, machine, models
from trlm_utils.curation import data_sets
from trlm_utils.training import configuration, preflight, sft, think_tag
from trlm_utils.training.preflight import Check, PreflightError

CPU = machine.choose_precision("cpu")


def sft_trainer(model, tokenizer, rows, tmp_path, build=SFTTrainer, **settings):
    config = configuration.make_config(
        SFTConfig,
        **configuration.common_settings(tmp_path, CPU, 0),
        assistant_only_loss=True,
        per_device_train_batch_size=4,
        **{"max_length": 256, **settings},
    )
    dataset = Dataset.from_list([{"messages": row["messages"]} for row in rows])
    return build(model, args=config, train_dataset=dataset, processing_class=tokenizer)


@pytest.fixture
def rows():
    return data_sets.world_thinking(12, 0, {"careful": 1.0}, [1, 1, 1, 1])


def failed(checks):
    return {check.name for check in checks if not check.ok}


def test_a_sound_stage_passes(model, tokenizer, rows, tmp_path):
    trainer = sft_trainer(model, tokenizer, rows, tmp_path)
    checks = preflight.check_sft(trainer, [r["messages"] for r in rows], CPU)
    assert failed(checks) == set()
    assert "12 rows, 9 steps" in str([c.found for c in checks])


def test_truncation_is_found(tokenizer, rows):
    texts = [text for row in rows for text in data_sets.texts_of(row, tokenizer)]
    checks = preflight.check_truncation(texts, tokenizer, max_length=20)
    assert failed(checks) == {"rows truncated", "rows that lose </think>"} | {
        "rows that lose the end token"
    }


@pytest.mark.parametrize("build", [SFTTrainer, sft.make_trainer])
def test_an_end_token_without_loss_is_found(model, tokenizer, rows, tmp_path, build):
    """What happens when padding uses the end token and is masked with it."""
    trainer = sft_trainer(model, tokenizer, rows, tmp_path, build)
    collate = trainer.data_collator

    def mask_end(features):
        batch = collate(features)
        batch["labels"][batch["labels"] == tokenizer.eos_token_id] = -100
        return batch

    trainer.data_collator = mask_end
    assert not preflight.check_end_token(trainer).ok


def test_rows_cut_before_their_first_trained_token_are_found(model, tokenizer, rows, tmp_path):
    trainer = sft_trainer(model, tokenizer, rows, tmp_path, max_length=5)
    checks = preflight.check_sft(trainer, [r["messages"] for r in rows], CPU)
    with pytest.raises(PreflightError, match="no row has a token to train on .raise MAX_LENGTH"):
        preflight.report(checks)


def test_a_packed_row_counts_each_of_its_conversations(model, tokenizer, rows, tmp_path):
    trainer = sft_trainer(model, tokenizer, rows, tmp_path, sft.make_trainer, max_length=512)
    collate = trainer.data_collator
    short = {"input_ids": [5, 6, tokenizer.eos_token_id], "labels": [-100, 6, -100]}
    trainer.data_collator = lambda features: collate([*features, short])
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    assert len(batch["input_ids"]) < 5  # packed, or there is nothing to see
    check = preflight.check_end_token(trainer)
    assert (check.found, check.ok) == ("4 of 5 rows in a batch", False)


def dpo_failures(tokenizer, tmp_path, **settings):
    settings = {"max_length": 256, "per_device_train_batch_size": 4, **settings}
    config = configuration.make_config(
        DPOConfig, **configuration.common_settings(tmp_path, CPU, 0), **settings
    )
    pairs = data_sets.world_preferences(20, 0)
    return failed(preflight.check_dpo(config, pairs, tokenizer, CPU))


def test_a_sound_dpo_stage_passes(tokenizer, tmp_path):
    assert dpo_failures(tokenizer, tmp_path) == set()


def test_dpo_truncation_is_found(tokenizer, tmp_path):
    assert "rows truncated" in dpo_failures(tokenizer, tmp_path, max_length=20)


def test_replies_without_an_end_token_are_found(tokenizer, tmp_path):
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace(
            "message['content'] + '<|im_end|>'", "message['content']"
        )
        assert "end token in the replies" in dpo_failures(tokenizer, tmp_path)
    finally:
        tokenizer.chat_template = template


def test_a_training_of_no_steps_is_found(tmp_path):
    config = configuration.make_config(
        SFTConfig,
        **configuration.common_settings(tmp_path, CPU, 0),
        per_device_train_batch_size=8,
        dataloader_drop_last=True,
    )
    assert not preflight.check_batch(config, 7).ok
    assert preflight.check_batch(config, 8).ok


@pytest.mark.parametrize(
    ("probe", "prompts", "expected"),
    [
        ({}, 4, set()),
        ({"zero_spread": 1.0}, 4, {"zero-variance groups"}),
        ({"clipped": 0.9}, 4, {"completions clipped"}),
        ({}, 3, {"effective batch"}),
        ({"hacks": ("padding",)}, 4, {"paid more than honest work"}),
    ],
)
def test_grpo_checks(tmp_path, probe, prompts, expected):
    config = configuration.make_config(
        GRPOConfig,
        **configuration.common_settings(tmp_path, CPU, 0),
        **configuration.grpo_batch(4, 4, 16),
    )
    values = {"pass_rate": 0.5, "zero_spread": 0.2, "clipped": 0.0, "mean_tokens": 9.0}
    found = preflight.Probe(**{**values, **probe}, table=None)
    assert failed(preflight.check_grpo(config, prompts, found, CPU)) == expected


def test_probe_counts_groups_without_spread(model, tokenizer, monkeypatch):
    """Two prompts: one whose four completions agree, one where they differ."""
    texts = ["4", "4", "4", "4", "4", "5", "5", "5"]
    drawn = [preflight.generation.Sample(t, 2, t == "4") for t in texts]
    monkeypatch.setattr(preflight.generation, "sample", lambda *a, **k: drawn)
    prompts = [{"id": i, "answer": "4", "prompt": [{"role": "user", "content": "q"}]} for i in "ab"]
    probe = preflight.probe_rewards(
        model, tokenizer, prompts, {"accuracy": 1.0}, group_size=4, max_new_tokens=4
    )
    assert (probe.pass_rate, probe.zero_spread, probe.clipped) == (5 / 8, 0.5, 3 / 8)
    assert probe.hacks == ()


def test_report_refuses_what_is_not_allowed_and_says_how_to_allow_it():
    checks = [Check("a", "fine", True), Check("b", "broken", False, "repair it")]
    with pytest.raises(PreflightError, match=r'b: broken .repair it.*ALLOW_FAILED: .*"b": "why"'):
        preflight.report(checks)
    with pytest.raises(PreflightError):
        preflight.report(checks, {"a": "another check"})
    table = preflight.report(checks, {"b": "it is known"})
    assert list(table["verdict"]) == ["ok", "failed, allowed: it is known"]
    assert preflight.outcome(checks) == {"a": True, "b": False}


def test_every_check_that_a_stage_makes_is_known_by_name(model, tokenizer):
    probe = preflight.Probe(0.5, 0.1, 0.1, 5.0, table=None)
    config = type("C", (), {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1})
    config.num_generations, config.max_steps, config.max_length = 2, 1, 64
    row = {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
    }
    made = [
        *preflight.check_grpo(config, 4, probe, CPU),
        *preflight.check_dpo(config, [row], tokenizer, CPU),
    ]
    assert {check.name for check in made} <= set(preflight.CHECKS)


def test_where_a_thought_opens():
    """The first tag of a reply counts, not one that the system prompt names."""
    turns = chat.to_messages("Q", "So: <think> 2 and 2.</think> 4", "Use <think>.")
    silent = chat.to_messages("Q", "4")
    short = chat.to_messages("Q", "<think>a</think> 4")

    class Plain:
        def apply_chat_template(self, messages, **_):
            return "|".join(m["content"] for m in messages) + "|"

    found = think_tag.before_the_tag([turns, silent, short], Plain(), rows=5)
    assert found == [("Q|", "<think>a</think"), ("Use <think>.|Q|So: ", "<think> 2 and 2")]


def test_the_probability_of_a_tag_of_several_tokens_is_their_product(model, downloaded):
    """By hand: the model gives every token the same probability."""
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    unseen = torch.zeros(model.config.vocab_size, dtype=torch.bool)
    unseen[:9] = True
    pairs = [("Q", "<think> a"), ("Q: ", "<think> a")]
    assert len(downloaded.tokenize("<think>")) == 3
    one = 1 / model.config.vocab_size
    found = think_tag.tag_probability(model, downloaded, pairs, unseen)
    assert found == pytest.approx((one**3, 9 * one), rel=1e-5)


@pytest.mark.parametrize("learns", [True, False])
def test_a_training_that_does_not_learn_its_tag_is_stopped(
    tokenizer, rows, tmp_path, capsys, learns
):
    """Its rate is nearly 0, or it is not; at step 20 of 25, without warm-up."""
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2, model_type="qwen3")
    settings = {"max_steps": 25, "learning_rate": 0.02 if learns else 1e-9}
    trainer = sft_trainer(model, tokenizer, rows, tmp_path, sft.make_trainer, **settings)
    trainer.add_callback(think_tag.watch_tag(trainer, [r["messages"] for r in rows]))
    if learns:
        trainer.train()
    else:
        with pytest.raises(PreflightError, match="probability of <think>"):
            trainer.train()
    assert trainer.state.global_step == (25 if learns else 20)
    assert "step 20: probability of <think>" in capsys.readouterr().out


def test_watching_the_tag_changes_no_result(tokenizer, rows, tmp_path):
    from trlm_utils import models

    weights = []
    for watched in (True, False):
        model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
        settings = {"max_steps": 22, "learning_rate": 0.02}
        trainer = sft_trainer(model, tokenizer, rows, tmp_path, sft.make_trainer, **settings)
        if watched:
            conversations = [r["messages"] for r in rows]
            trainer.add_callback(
                think_tag.watch_tag(
                    trainer, conversations, allowed={"probability of <think>": "looked at"}
                )
            )
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
