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


def test_budget_marks_a_sample_unfinished(model, tokenizer):
    (sample,) = generation.sample(model, tokenizer, ["Ana"], max_new_tokens=3, seed=0)
    assert sample.finished is (sample.tokens < 3) or sample.tokens == 3


def test_end_token_marks_a_sample_finished(model, tokenizer):
    """A model that says nothing but its end token."""
    end = tokenizer.eos_token_id

    class Ends:
        config, device, training = model.config, model.device, False

        def eval(self):
            return self

        train = staticmethod(lambda mode: None)

        def generate(self, input_ids, **kwargs):
            tail = torch.full((input_ids.shape[0], 2), end)
            return torch.cat([input_ids, tail], dim=1)

    (sample,) = generation.sample(Ends(), tokenizer, ["Ana"], max_new_tokens=5)
    assert sample == generation.Sample(text="", tokens=1, finished=True)


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
