"""Models: saving, loading, half-written folders, think tags of pretrained ones."""

import sys

import pytest
import torch

from trlm_utils import architectures, gguf_file, models, tokenization
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


@pytest.fixture
def base(downloaded, tmp_path):
    """A folder as the Hub's are: a tiny model whose tokenizer lacks the tags."""
    model = models.build_model(downloaded, hidden_size=16, layers=1, heads=2)
    model.save_pretrained(tmp_path / "base")
    downloaded.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_a_pretrained_model_keeps_its_vocabulary(base, downloaded):
    model, tokenizer = models.load_base(base)
    assert len(tokenizer) == model.config.vocab_size == len(downloaded)
    assert not hasattr(model.config, "think_token_rows")


def test_added_tags_start_apart_and_are_known_to_later_stages(base, tmp_path):
    plain, _ = models.load_base(base)
    model, tokenizer = models.load_base(base, think_tokens=True)
    old, new = plain.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert torch.equal(new[:-2], old) and len(new) == len(tokenizer)
    opened, closed = new[-2], new[-1]
    pieces = [tokenizer.convert_tokens_to_ids(p) for p in ("<", "think", ">")]
    noise = (opened - old[pieces].mean(0)) / old.std(0)
    assert noise.abs().max() < 5 and 0.4 < noise.std() < 1.8  # 16 draws of a standard normal
    for other in (closed, old.mean(0)):
        assert (opened - other).norm() > 0.5 * old.std(0).norm()
    again, _ = models.load_base(base, think_tokens=True)
    assert torch.equal(again.get_input_embeddings().weight, new)
    models.save_model(model, tokenizer, tmp_path / "model")
    loaded, _ = models.load_model(tmp_path / "model")
    assert loaded.config.think_token_rows == [len(old), len(old) + 1]


def test_a_gguf_file_that_is_missing_gets_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*model\.gguf"):
        models.load_base(str(tmp_path / "model.gguf"))


def test_a_gguf_file_without_the_package_gets_one_line(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").touch()
    monkeypatch.setitem(sys.modules, "gguf", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match="pip install gguf"):
        models.load_base(str(tmp_path / "model.gguf"))


def test_a_gguf_file_is_a_base_model_that_can_be_saved(tmp_path, downloaded):
    model = models.build_model(downloaded, hidden_size=16, layers=1, heads=8, model_type="llama")
    gguf_file.write(model, downloaded, tmp_path / "model.gguf")
    loaded, tokenizer = models.load_base(str(tmp_path / "model.gguf"))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    ids = torch.tensor([downloaded("<think> so.</think> The answer")["input_ids"]])
    assert tokenizer("<think> so.</think> The answer")["input_ids"] == ids[0].tolist()
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-5)
    models.save_model(loaded, tokenizer, tmp_path / "model")
    again, _ = models.load_model(tmp_path / "model")
    assert torch.equal(again(ids).logits, loaded(ids).logits)


# The defect of added tags in miniature: a model that has read replies without a tag, and
# hundreds of tokens that it never met, then a short training on replies that think.
STEPS, RATE = 30, 0.001


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Folder of the model, rows that think, and a training on rows."""
    from datasets import Dataset
    from trl import SFTConfig

    from trlm_utils import chat, machine
    from trlm_utils.training import configuration, sft

    folder = tmp_path_factory.mktemp("pretrained")

    def train(model, tokenizer, rows, steps, rate):
        config = configuration.make_config(
            SFTConfig,
            **configuration.common_settings(folder, machine.choose_precision("cpu"), 0),
            assistant_only_loss=True,
            per_device_train_batch_size=16,
            max_steps=steps,
            learning_rate=rate,
            lr_scheduler_type="constant",
            adam_beta2=0.98,
            save_strategy="no",
        )
        dataset = Dataset.from_list([{"messages": messages} for messages in rows])
        trainer = sft.make_trainer(model, config, train_dataset=dataset, processing_class=tokenizer)
        trainer.train()
        return trainer

    direct, thinking = [], []
    for i in range(200):
        a, b = i % 17, i % 13
        reply = f"The answer is {a + b}."
        marked = f"<b>{reply}</b> I (think) so." if i % 3 == 0 else reply
        direct.append(chat.to_messages(f"What is {a} + {b}?", marked))
        thought = chat.think(f"{a} + {b} = {a + b}.", reply)
        thinking.append(chat.to_messages(f"What is {a} + {b}?", thought))
    texts = [turn["content"] for messages in direct for turn in messages] * 2
    texts += [f" rare{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)]  # in no row
    tokenizer = tokenization.build_tokenizer(texts, 700, think_tokens=())
    model = models.build_model(tokenizer, hidden_size=48, layers=2, heads=4)
    train(model, tokenizer, direct, 80, 0.003)
    models.save_model(model, tokenizer, folder / "model")
    return folder / "model", thinking, train


@pytest.mark.parametrize("start", ["text", "mean", "apart"])
def test_tags_added_at_the_mean_are_not_learned_as_text_or_apart_they_are(pretrained, start):
    from trlm_utils.training import think_tag

    folder, rows, train = pretrained
    model, tokenizer = models.load_base(str(folder), think_tokens=start == "apart")
    if start == "mean":  # what `resize_token_embeddings` does, without its noise
        new = tokenization.add_think_tokens(tokenizer)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        table = model.get_input_embeddings().weight.data
        table[new] = table[: min(new)].mean(0)
    trainer = train(model, tokenizer, rows, STEPS, RATE)
    unseen = torch.ones(len(tokenizer), dtype=torch.bool)
    unseen[sorted({i for ids in trainer.train_dataset["input_ids"] for i in ids})] = False
    pairs = think_tag.before_the_tag(rows, tokenizer)
    tag, rare = think_tag.tag_probability(model, tokenizer, pairs, unseen)
    assert unseen.sum() > 200
    assert (tag > 0.5 and tag > 10 * rare) == (start != "mean")
    assert think_tag.check_tag(tag, rare).ok == (start != "mean")


def test_a_model_that_is_only_asked_may_have_another_number_format(tmp_path, model, tokenizer):
    models.save_model(model, tokenizer, tmp_path / "model")
    loaded, _ = models.load_model(tmp_path / "model", "eager", "bfloat16")
    assert loaded.dtype == torch.bfloat16
    assert loaded.config._attn_implementation == "eager"
