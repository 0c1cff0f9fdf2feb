"""Sampling: order, ends, budgets, seeds, and agreement with plain generate."""

import pytest
import torch

from trlm_utils import generation, models, nanoworld

PROMPTS = ["Ana has 12 apples.", "Compute", "Ben has the ball. May swaps Ben and Dan."]


def test_greedy_agrees_with_generate_one_by_one(model, tokenizer):
    """Sorting, padding and batching must not change what the model says."""
    together = generation.sample(
        model, tokenizer, PROMPTS, max_new_tokens=12, temperature=0.0, batch_size=2
    )
    for prompt, sample in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        alone = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        alone = alone.tolist()
        if tokenizer.eos_token_id in alone:
            alone = alone[: alone.index(tokenizer.eos_token_id)]
        assert sample.text == tokenizer.decode(alone, skip_special_tokens=True)


def test_layers_that_see_only_what_is_near_agree_with_generate(tokenizer):
    """The prompts are longer and shorter than the window, and completions leave it behind."""
    model = models.build_model(tokenizer, hidden_size=16, layers=2, heads=2, window=5)
    encoded = tokenizer(PROMPTS)["input_ids"]
    assert min(map(len, encoded)) < 5 < max(map(len, encoded))
    together = generation.complete(
        model, encoded, end=-1, pad=tokenizer.pad_token_id, max_new_tokens=12, temperature=0.0
    )
    for prompt, ids in zip(encoded, together, strict=True):
        prompt = torch.tensor([prompt])
        alone = model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=-1)
        assert ids == alone[0, prompt.shape[1] :].tolist()


def test_a_sliding_layer_sees_the_last_tokens_and_no_padding(tokenizer):
    config = models.build_model(tokenizer, hidden_size=16, layers=2, heads=2, window=3).config
    off = float("-inf")
    mask = torch.tensor([[off, 0, 0, 0, 0], [off, off, off, 0, 0]])[:, None, None]
    masks = generation._by_kind(config, mask)
    assert masks["full_attention"] is mask
    near = [[off, off, 0, 0, 0], [off, off, off, 0, 0]]
    assert masks["sliding_attention"][:, 0, 0].tolist() == near


class Says:
    """Stands in for a model: after any prompt it writes the tokens it was given."""

    training = False

    def __init__(self, model, *replies):
        self.model, self.config, self.device = model, model.config, model.device
        self.dtype = model.dtype
        self.replies, self.calls = replies, 0

    def eval(self):
        return self

    def train(self, mode):
        return self

    def __call__(self, **inputs):
        output = self.model(**inputs)  # keeps the cache in step
        position = min(self.calls, len(self.replies) - 1)
        self.calls += 1
        output.logits[:] = 0.0
        output.logits[..., self.replies[position]] = 1000.0
        return output


def test_a_budget_that_runs_out_marks_a_sample_unfinished(model, tokenizer):
    (word,) = tokenizer(" 12")["input_ids"]
    says = Says(model, word)
    (sample,) = generation.sample(says, tokenizer, ["Ana"], max_new_tokens=3)
    assert sample == generation.Sample(text=" 12 12 12", tokens=3, finished=False)


def test_the_end_token_is_counted_and_what_follows_it_is_not(model, tokenizer):
    (word,) = tokenizer(" 12")["input_ids"]
    says = Says(model, word, tokenizer.eos_token_id, word)
    (sample,) = generation.sample(says, tokenizer, ["Ana"], max_new_tokens=3)
    assert sample == generation.Sample(text=" 12", tokens=2, finished=True)


def test_agrees_with_generate_when_completions_end_at_different_times(model, tokenizer):
    """Ended completions are dropped from the batch; the others must not notice."""
    prompts = [p.question for p in nanoworld.make_problems("ends", 24)]
    encoded = tokenizer(prompts)["input_ids"]
    settings = {"pad": tokenizer.pad_token_id, "max_new_tokens": 40, "temperature": 0.0}
    endless = generation.complete(model, encoded, end=-1, **settings)

    def ends(token):
        return {row.index(token) for row in endless if token in row}

    # the token that comes up at the most different places plays the end token
    end = max({token for row in endless for token in row}, key=lambda token: len(ends(token)))
    assert len(ends(end)) > 3
    together = generation.complete(model, encoded, end=end, **settings)
    for prompt, row in zip(encoded, together, strict=True):
        alone = model.generate(
            torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=end
        )
        assert row == alone[0, len(prompt) :].tolist()


def test_a_repeated_prompt_is_read_once_and_completed_every_time(model, tokenizer):
    widths = []
    handle = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    drawn = generation.sample(model, tokenizer, ["Ana"] * 8 + ["Ben"], max_new_tokens=2, seed=0)
    handle.remove()
    assert widths[0][0] == 2
    assert len(drawn) == 9


def test_memory_for_keys_grows_and_keeps_what_was_written():
    """Two tokens of one head of size one at first, then one token at a time."""
    layer = generation._in_place_layer()()
    keys = torch.arange(40.0).view(2, 1, 20, 1)
    seen, _ = layer.update(keys[:, :, :2], -keys[:, :, :2])
    for i in range(2, 20):
        seen, values = layer.update(keys[:, :, i : i + 1], -keys[:, :, i : i + 1])
    assert torch.equal(seen, keys) and torch.equal(values, -keys)
    layer.batch_select_indices(torch.tensor([1]))
    assert torch.equal(layer.keys, keys[1:]) and torch.equal(layer.values, -keys[1:])
    assert 20 <= layer.room <= 20 + generation.GROWTH


def test_other_kinds_of_attention_get_the_librarys_own_cache():
    """A sliding window forgets keys, so memory set aside for more of them is no use."""
    from transformers import MistralConfig

    config = MistralConfig(sliding_window=8, num_hidden_layers=2)
    assert type(generation._cache(config)).__name__ == "DynamicCache"


def test_same_seed_same_samples(model, tokenizer):
    first, second, other = (
        generation.sample(model, tokenizer, PROMPTS, max_new_tokens=8, seed=s) for s in (1, 1, 2)
    )
    assert first == second != other


def test_sampling_follows_the_models_distribution(model, tokenizer):
    """First tokens of 4,000 samples against the softmax of the logits."""
    ids = torch.tensor([tokenizer("Ana")["input_ids"]])
    expected = model(ids).logits[0, -1].softmax(-1)
    drawn = generation.sample(
        model, tokenizer, ["Ana"] * 4000, max_new_tokens=1, batch_size=4000, seed=0
    )
    chance = {}  # several bytes decode to the same sign, so chances are added by text
    for token, probability in enumerate(expected.tolist()):
        text = tokenizer.decode([token], skip_special_tokens=True)
        chance[text] = chance.get(text, 0.0) + probability
    for text in sorted(chance, key=chance.get, reverse=True)[:8]:
        seen = sum(d.text == text for d in drawn) / 4000
        assert abs(seen - chance[text]) < 4 * (chance[text] / 4000) ** 0.5


def test_an_impossible_token_is_never_drawn():
    chance = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    drawn = generation._draw(chance.log().expand(20_000, -1), 1.0, 1.0)
    counts = torch.bincount(drawn, minlength=5) / 20_000
    assert counts[[0, 2, 4]].sum() == 0
    assert abs(counts[3] - 0.7) < 4 * (0.7 * 0.3 / 20_000) ** 0.5


def test_the_nucleus_leaves_out_what_is_unlikely():
    """At 0.8 the likeliest two of three (0.6 + 0.3) are enough; they share 2 : 1."""
    chance = torch.tensor([0.3, 0.1, 0.6])
    drawn = generation._draw(chance.log().expand(20_000, -1), 1.0, 0.8)
    counts = torch.bincount(drawn, minlength=3) / 20_000
    assert counts[1] == 0
    assert abs(counts[2] - 2 / 3) < 4 * (2 / 9 / 20_000) ** 0.5


def test_training_mode_is_restored(model, tokenizer):
    model.train()
    generation.sample(model, tokenizer, ["Ana"], max_new_tokens=2)
    assert model.training


def test_a_budget_beyond_the_context_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="MAX_NEW_TOKENS"):
        generation.sample(model, tokenizer, ["Ana"], max_new_tokens=600)
