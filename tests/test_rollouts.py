"""Rollouts drawn with a copy of the policy in another number format."""

import pytest
import torch

from trlm_utils import models, nanoworld, tokenization
from trlm_utils.inference_copy import InferenceCopy


@pytest.fixture(scope="module")
def tokenizer():
    return tokenization.build_tokenizer(nanoworld.sample_text(50), 512)


@pytest.fixture
def policy(tokenizer):
    return models.build_model(tokenizer, hidden_size=16, layers=1)


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[5, 6, 7]])).logits.float()


def test_a_copy_follows_the_weights_of_the_policy(policy):
    copy = InferenceCopy("bfloat16")
    first = copy.of(policy)
    before = logits(first)
    assert first.dtype == torch.bfloat16 and policy.dtype == torch.float32
    assert torch.allclose(before, logits(policy), atol=0.05, rtol=0.05)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.5)
    second = copy.of(policy)
    assert second is first
    assert torch.allclose(logits(second), logits(policy), atol=0.1, rtol=0.05)
    assert not torch.allclose(logits(second), before, atol=0.1)


def test_positions_are_not_rounded(policy):
    """bf16 has 8 bits: a rotation's frequencies rounded to it would be another model's."""
    copy = InferenceCopy("bfloat16").of(policy)
    assert torch.equal(copy.model.rotary_emb.inv_freq, policy.model.rotary_emb.inv_freq)


def test_adapters_are_in_the_copy_and_the_policy_is_left_alone(policy):
    adapted = models.add_lora(policy, rank=2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    before = {name: weight.clone() for name, weight in adapted.named_parameters()}
    copy = InferenceCopy("float32").of(adapted)
    assert all(torch.equal(before[name], weight) for name, weight in adapted.named_parameters())
    assert torch.allclose(logits(copy), logits(adapted), atol=1e-5)
    with adapted.disable_adapter():
        assert not torch.allclose(logits(copy), logits(adapted), atol=1e-3)


def test_a_copy_costs_no_random_number(policy):
    torch.manual_seed(3)
    InferenceCopy("bfloat16").of(policy)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
