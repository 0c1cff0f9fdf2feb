"""Optimizers: which parameter gets which rule and rate, and that both rules step."""

import pytest
import torch

from trlm_utils.training import optimizers


def names(model, group):
    wanted = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in wanted}


def test_muon_takes_the_matrices_inside_the_layers_and_nothing_else(model):
    matrices, others = optimizers.muon(model, rate=0.1, matrix_rate=0.2).param_groups
    assert matrices["use_muon"] and matrices["lr"] == 0.2
    assert not others["use_muon"] and others["lr"] == 0.1
    assert all("_proj" in name for name in names(model, matrices))
    assert names(model, others) == {n for n, _ in model.named_parameters() if "_proj" not in n}


def test_a_step_of_muon_is_orthogonal_and_as_large_as_its_rate(model):
    """The step of a square matrix has singular values near 1 (times the rate)."""
    weight = model.model.layers[0].self_attn.q_proj.weight
    before = weight.detach().clone()
    optimizer = optimizers.muon(model, rate=0.0, matrix_rate=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    sizes = torch.linalg.svdvals((before - weight.detach()) / 0.5)
    # Newton-Schulz in five steps brings them to 0.7 to 1.2, not to 1 exactly
    assert sizes.min() > 0.5 and sizes.max() < 1.4


def test_vectors_have_a_rate_of_their_own(model):
    others, vectors = optimizers.adamw(model, rate=0.1, vector_rate=0.3).param_groups
    assert (others["lr"], vectors["lr"]) == (0.1, 0.3)
    assert all("norm" in name for name in names(model, vectors))


def test_frozen_parameters_are_left_out(model):
    model.requires_grad_(False)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    groups = optimizers.muon(model, 0.1, 0.2).param_groups
    assert [len(group["params"]) for group in groups] == [1, 0]


def test_a_model_of_tables_only_is_refused(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("_proj" not in name)
    with pytest.raises(ValueError, match="no weight matrices"):
        optimizers.muon(model, 0.1, 0.2)


def test_the_trainers_own_adamw_is_none(model):
    assert optimizers.choose("adamw", model, 0.1, 0.2) is None
    with pytest.raises(ValueError, match="known: muon, adamw"):
        optimizers.choose("adam", model, 0.1, 0.2)


def test_rows_of_added_tokens_step_further_and_the_others_as_before(model):
    """Adam's first step is the rate in every entry, whatever the size of the gradient."""
    table = model.get_input_embeddings().weight
    model.config.think_token_rows = [3, 5]
    (callback,) = optimizers.faster_rows(model, factor=10.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.0)
    before = table.detach().clone()
    model(torch.tensor([[3, 5, 7]])).logits.logsumexp(-1).sum().backward()
    callback.on_pre_optimizer_step(None, None, None)
    optimizer.step()
    callback.on_optimizer_step(None, None, None)
    moved = (table.detach() - before).abs().mean(1)
    assert moved[[3, 5]].tolist() == pytest.approx([0.01, 0.01], rel=0.01)
    assert moved[[7, 9]].tolist() == pytest.approx([0.001, 0.001], rel=0.01)


def test_without_added_tokens_nothing_is_watched(model):
    assert optimizers.faster_rows(model) == []
