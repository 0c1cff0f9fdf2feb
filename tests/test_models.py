"""Models: saving, loading, half-written folders, think tags of pretrained ones."""

import pytest
import torch

from trlm_utils import architectures, models, tokenization
from trlm_utils.models import ModelFolderError


def test_saved_and_loaded_model_gives_the_same_logits(tmp_path, model, tokenizer):
    ids = torch.tensor([tokenizer("Ana has 12 apples.")["input_ids"]])
    models.save_model(model, tokenizer, tmp_path / "model")
    loaded, same = models.load_model(tmp_path / "model")
    assert torch.equal(model(ids).logits, loaded(ids).logits)
    assert same.chat_template == tokenizer.chat_template
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "tokenizer.json").write_text('{"a"'), "tokenizer.json is damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "no .safetensors"),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                (f / "model.safetensors").read_bytes()[:-50]
            ),
            "model.safetensors is cut off",
        ),
    ],
)
def test_half_written_folders_are_refused(tmp_path, model, tokenizer, damage, message):
    folder = tmp_path / "model"
    models.save_model(model, tokenizer, folder)
    damage(folder)
    with pytest.raises(ModelFolderError, match=message):
        models.load_model(folder)


def test_an_interrupted_save_leaves_no_model_folder(tmp_path, tokenizer):
    class Breaks:
        config = generation_config = type("C", (), {})()

        def save_pretrained(self, folder):
            folder.mkdir(parents=True)
            raise OSError("No space left on device")

    with pytest.raises(OSError):
        models.save_model(Breaks(), tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_same_seed_same_weights(tokenizer):
    first, second = (models.build_model(tokenizer, hidden_size=16, seed=3) for _ in "ab")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_width_that_does_not_divide_is_refused(tokenizer):
    with pytest.raises(ValueError, match="multiple"):
        models.build_model(tokenizer, hidden_size=20, heads=4)


def test_adapters_change_nothing_at_first_and_merge_into_the_weights(model):
    ids = torch.tensor([[5, 6, 7]])
    plain = model(ids).logits.detach()
    adapted = models.add_lora(model, rank=2)
    assert torch.equal(adapted(ids).logits, plain)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)
    changed = adapted(ids).logits.detach()
    assert not torch.allclose(changed, plain, atol=1e-4)
    merged = models.merge_lora(adapted)
    assert torch.allclose(merged(ids).logits, changed, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())


PUBLISHED = {  # parameters, as the models' cards and safetensors files have them
    "SmolLM2-135M-Instruct": 134_515_008,
    "SmolLM2-360M-Instruct": 361_821_120,
    "Qwen2.5-0.5B-Instruct": 494_032_768,
    "DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "gemma-2-2b-it": 2_614_341_888,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_architectures_have_the_published_number_of_parameters(name, parameters):
    assert architectures.parameters_of(architectures.architecture(name)) == parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_stand_in_is_of_the_same_class_and_its_template_keeps_both_promises(name):
    from trlm_utils import chat, nanoworld

    model, tokenizer = architectures.build_stand_in(name, nanoworld.sample_text(50))
    assert type(model).__name__ in architectures.architecture(name).architectures
    assert model.config.num_hidden_layers == 2
    turns = chat.to_messages("Q", "A", system="S") + chat.to_messages("R", "B")
    assert chat.prompt_is_prefix(tokenizer, turns)
    ids, mask = chat.loss_mask(tokenizer, turns)
    carried = tokenizer.decode([i for i, kept in zip(ids, mask, strict=True) if kept])
    assert carried == f"A{tokenizer.eos_token}B{tokenizer.eos_token}"
    assert chat.render(tokenizer, turns).count("S") == 1


def test_an_unknown_architecture_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no architecture 'gpt'; there are: DeepSeek"):
        architectures.architecture("gpt")


def test_adapters_kept_of_a_run_are_added_into_its_model(tmp_path, model, tokenizer):
    """The run folder is moved in between, as people do."""
    ids = torch.tensor([tokenizer("Ana has 12 apples.")["input_ids"]])
    models.save_model(model, tokenizer, tmp_path / "run" / "start" / "model")
    start, _ = models.load_model(tmp_path / "run" / "start" / "model")
    adapted = models.add_lora(start, rank=2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    kept = tmp_path / "run" / "grpo" / "step_10" / "model"
    models.save_model(adapted, tokenizer, kept)
    assert sum(p.stat().st_size for p in kept.glob("*.safetensors")) < 30_000  # no whole model
    (tmp_path / "run").rename(tmp_path / "moved")
    loaded, _ = models.load_model(tmp_path / "moved" / "grpo" / "step_10" / "model")
    adapted.eval()
    assert torch.allclose(loaded(ids).logits, adapted(ids).logits, atol=1e-5)
    assert not torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-3)
