"""Sampling: order, ends, budgets, seeds, and agreement with plain generate."""

import pytest
import torch

from trlm_utils import generation

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


class Says:
    """Stands in for a model: answers every prompt with the same tokens."""

    training = False

    def __init__(self, model, tokens):
        self.config, self.device, self.tokens = model.config, model.device, tokens

    def eval(self):
        return self

    def train(self, mode):
        return self

    def generate(self, input_ids, **kwargs):
        tail = torch.tensor([self.tokens] * input_ids.shape[0])
        return torch.cat([input_ids, tail], dim=1)


def test_a_budget_that_runs_out_marks_a_sample_unfinished(model, tokenizer):
    (word,) = tokenizer(" 12")["input_ids"]
    says = Says(model, [word] * 3)
    (sample,) = generation.sample(says, tokenizer, ["Ana"], max_new_tokens=3)
    assert sample == generation.Sample(text=" 12 12 12", tokens=3, finished=False)


def test_the_end_token_is_counted_and_what_follows_it_is_not(model, tokenizer):
    (word,) = tokenizer(" 12")["input_ids"]
    says = Says(model, [word, tokenizer.eos_token_id, word])
    (sample,) = generation.sample(says, tokenizer, ["Ana"], max_new_tokens=3)
    assert sample == generation.Sample(text=" 12", tokens=2, finished=True)


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


def test_training_mode_is_restored(model, tokenizer):
    model.train()
    generation.sample(model, tokenizer, ["Ana"], max_new_tokens=2)
    assert model.training


def test_a_budget_beyond_the_context_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="MAX_NEW_TOKENS"):
        generation.sample(model, tokenizer, ["Ana"], max_new_tokens=600)
