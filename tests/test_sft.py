"""The SFT trainer: the same loss as TRL's, on less."""

import pytest
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from trlm_utils import chat
from trlm_utils.machine import choose_precision
from trlm_utils.training import configuration, sft

CONVOLUTION = {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2}


def build(model, tokenizer, tmp_path, options=None, **others):
    settings = configuration.common_settings(tmp_path, choose_precision("cpu"), 0)
    rows = Dataset.from_list([{"messages": chat.to_messages("1 + 1?", "2")}] * 4)
    return sft.make_trainer(
        model,
        configuration.make_config(SFTConfig, **settings, **(options or {})),
        train_dataset=rows,
        processing_class=tokenizer,
        **others,
    )


@pytest.mark.parametrize(
    ("lengths", "bins"),
    [
        # 5 and 4 open bins, 3 fits neither, 2 fits beside 4 (fuller) and beside 3
        ([5, 3, 2, 4], [[0], [3, 2], [1]]),
        ([2, 9, 4], [[1], [2, 0]]),  # 9 is longer than a bin
        ([], []),
    ],
)
def test_items_go_into_the_fullest_bin_they_fit(lengths, bins):
    assert sft.pack(lengths, width=6) == bins


def test_packed_rows_count_positions_anew_and_predict_no_first_token():
    examples = [
        {"input_ids": [5, 6], "labels": [-100, 6]},
        {"input_ids": [1, 2, 3, 4, 7], "labels": [1, 2, 3, 4, 7]},
        {"input_ids": [8, 9], "labels": [8, 9]},
    ]
    batch = sft.PackedRows(pad=0)(examples)
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[1, 2, 3, 4, 7], [5, 6, 8, 9, 0]],
        "labels": [[-100, 2, 3, 4, 7], [-100, 6, -100, 9, -100]],
        "position_ids": [[0, 1, 2, 3, 4], [0, 1, 0, 1, 0]],
    }


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("assistant_only", [True, False])
def test_loss_and_gradients_are_those_of_trls_trainer(
    model, tokenizer, tmp_path, assistant_only, rank
):
    import torch

    from trlm_utils import models
    from trlm_utils.curation import data_sets

    model = models.add_lora(model, rank, seed=0) if rank else model
    rows = data_sets.world_thinking(8, 0, {"careful": 1.0}, [4, 0, 0, 0, 0, 1])
    settings = configuration.common_settings(tmp_path, choose_precision("cpu"), 0)
    options = {"assistant_only_loss": assistant_only, "per_device_train_batch_size": 8}
    found = []
    for make in (SFTTrainer, sft.make_trainer):
        trainer = make(
            model,
            args=configuration.make_config(SFTConfig, **settings, **options),
            train_dataset=Dataset.from_list([{"messages": row["messages"]} for row in rows]),
            processing_class=tokenizer,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        model.train().zero_grad()
        loss = trainer.compute_loss(model, batch)
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        names = ("mean_token_accuracy", "num_tokens")
        logged = [trainer._metrics["train"][name][0] for name in names]
        found.append((loss, batch["input_ids"].numel(), logged, gradients))
    (loss, size, logged, gradients), (same, less, logged_too, same_gradients) = found
    torch.testing.assert_close(same, loss)
    assert less < size
    assert logged_too == pytest.approx(logged)
    torch.testing.assert_close(same_gradients, gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "others"),
    [
        ({"packing": True}, {}),
        ({"loss_type": "dft"}, {}),
        ({"label_smoothing_factor": 0.1}, {}),
        ({}, {"compute_loss_func": lambda *_, **__: 0.0}),
        ({}, {"data_collator": list}),
    ],
)
def test_what_is_not_the_plain_loss_is_left_to_trl(model, tokenizer, tmp_path, options, others):
    assert type(build(model, tokenizer, tmp_path, options, **others)) is SFTTrainer


def test_learned_prompts_are_left_to_trl(model, tokenizer, tmp_path):
    """They lengthen every row, so that positions and targets no longer fit."""
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert type(build(model, tokenizer, tmp_path)) is SFTTrainer


def test_prompt_and_completion_rows_are_packed_too(model, tokenizer, tmp_path):
    settings = configuration.common_settings(tmp_path, choose_precision("cpu"), 0)
    row = {"prompt": "Ana has 3", "completion": " and 4: 7"}
    trainer = sft.make_trainer(
        model,
        configuration.make_config(SFTConfig, **settings, per_device_train_batch_size=2),
        train_dataset=Dataset.from_list([row, row]),
        processing_class=tokenizer,
    )
    asked, replied = (len(tokenizer(row[part])["input_ids"]) for part in row)
    batch = next(iter(trainer.get_train_dataloader()))
    trained = (batch["labels"] != -100).sum(dim=1).tolist()
    assert trained == [replied + 1] * 2  # and the end token
    assert batch["input_ids"].shape[1] == asked + replied + 1


@pytest.mark.parametrize(
    ("name", "options", "apart"),
    [
        ("LlamaForCausalLM", {}, True),
        ("Exaone4ForCausalLM", {"sliding_window": 4, "num_key_value_heads": 2}, True),
        ("Gemma2ForCausalLM", {"head_dim": 8, "num_key_value_heads": 2}, True),
        # a convolution carries the end of one conversation into the next
        ("Lfm2ForCausalLM", CONVOLUTION, False),
        ("OPTForCausalLM", {"ffn_dim": 32, "word_embed_proj_dim": 16}, False),  # counts itself
    ],
)
def test_whether_conversations_stay_apart_is_asked_of_the_model(name, options, apart):
    import torch
    import transformers

    kind = getattr(transformers, name)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = kind(kind.config_class(vocab_size=32, intermediate_size=32, **sizes, **options))
    model.train()
    assert sft.keeps_apart(model) is apart
    assert model.training


def test_a_model_that_mixes_conversations_is_not_packed(model, tokenizer, tmp_path, monkeypatch):
    for apart in (True, False):
        monkeypatch.setattr(sft, "keeps_apart", lambda _, apart=apart: apart)
        collator = build(model, tokenizer, tmp_path).data_collator
        assert isinstance(collator, sft.PackedRows) is apart


def test_added_think_tokens_take_larger_steps_in_every_training(model, tokenizer, tmp_path):
    def callbacks():
        trainer = build(model, tokenizer, tmp_path)
        return [type(callback).__name__ for callback in trainer.callback_handler.callbacks]

    assert "FasterRows" not in callbacks()
    model.config.think_token_rows = [3, 5]
    assert callbacks().count("FasterRows") == 1
