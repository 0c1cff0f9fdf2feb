"""The SFT trainer: the same loss as TRL's, on less."""

import pytest
from trl import SFTConfig

from trlm_utils import sft, training
from trlm_utils.training import choose_precision


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
    from datasets import Dataset
    from trl import SFTTrainer

    from trlm_utils import data, models

    model = models.add_lora(model, rank, seed=0) if rank else model
    rows = data.world_thinking(8, 0, {"careful": 1.0}, 0.3)
    settings = training.common_settings(tmp_path, choose_precision("cpu"), 0)
    options = {"assistant_only_loss": assistant_only, "per_device_train_batch_size": 8}
    found = []
    for build in (SFTTrainer, sft.make_trainer):
        trainer = build(
            model,
            args=training.make_config(SFTConfig, **settings, **options),
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


def test_packing_and_other_losses_are_left_to_trl(model, tokenizer, tmp_path):
    from datasets import Dataset
    from trl import SFTTrainer

    from trlm_utils import chat

    settings = training.common_settings(tmp_path, choose_precision("cpu"), 0)
    dataset = Dataset.from_list([{"messages": chat.to_messages("1 + 1?", "2")}] * 4)
    for options in ({"packing": True}, {"loss_type": "dft"}, {"label_smoothing_factor": 0.1}):
        config = training.make_config(SFTConfig, **settings, **options)
        trainer = sft.make_trainer(model, config, train_dataset=dataset, processing_class=tokenizer)
        assert type(trainer) is SFTTrainer


def test_prompt_and_completion_rows_are_packed_too(model, tokenizer, tmp_path):
    from datasets import Dataset

    settings = training.common_settings(tmp_path, choose_precision("cpu"), 0)
    row = {"prompt": "Ana has 3", "completion": " and 4: 7"}
    trainer = sft.make_trainer(
        model,
        training.make_config(SFTConfig, **settings, per_device_train_batch_size=2),
        train_dataset=Dataset.from_list([row, row]),
        processing_class=tokenizer,
    )
    asked, replied = (len(tokenizer(row[part])["input_ids"]) for part in row)
    batch = next(iter(trainer.get_train_dataloader()))
    trained = (batch["labels"] != -100).sum(dim=1).tolist()
    assert trained == [replied + 1] * 2  # and the end token
    assert batch["input_ids"].shape[1] == asked + replied + 1


def test_layers_that_remember_are_not_packed(model, tokenizer, tmp_path):
    """A convolution or state-space layer does not see where a conversation begins."""
    from datasets import Dataset

    from trlm_utils import chat

    settings = training.common_settings(tmp_path, choose_precision("cpu"), 0)
    dataset = Dataset.from_list([{"messages": chat.to_messages("1 + 1?", "2")}] * 4)
    for kind, packs in (("full_attention", True), ("conv", False)):
        model.config.layer_types = [kind, "full_attention"]
        config = training.make_config(SFTConfig, **settings)
        trainer = sft.make_trainer(model, config, train_dataset=dataset, processing_class=tokenizer)
        assert isinstance(trainer.data_collator, sft.PackedRows) is packs
