"""Checkpoints of a loop of one's own: complete or absent, and resumed to the same numbers."""

import torch
from accelerate import Accelerator

from trlm_utils.training import loop


def trained(folder, until, steps=6):
    """Weights after a loop with random inputs that stops at ``until`` and saves every step."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    saved = loop.resume(accelerator, folder) or {"step": 0, "seen": []}
    for step in range(saved["step"], min(until, steps)):
        optimizer.zero_grad()
        x = torch.randn(4, 3, device=accelerator.device)
        accelerator.backward(model(x).square().mean())
        optimizer.step()
        saved = {"step": step + 1, "seen": [*saved["seen"], step]}
        loop.save(accelerator, folder, saved)
    return accelerator.unwrap_model(model).weight.detach().cpu(), saved["seen"]


def test_a_stopped_loop_ends_as_one_that_was_not(tmp_path):
    whole, seen = trained(tmp_path / "whole", 6)
    trained(tmp_path / "parts", 3)
    parts, resumed = trained(tmp_path / "parts", 6)
    assert torch.equal(whole, parts)
    assert seen == resumed == [0, 1, 2, 3, 4, 5]


def test_the_newest_are_kept_and_half_a_checkpoint_is_none(tmp_path):
    trained(tmp_path, 4)
    (tmp_path / "checkpoint-9.partial").mkdir()
    (tmp_path / "checkpoint-8").mkdir()
    assert [path.name for path in loop.found(tmp_path)] == ["checkpoint-3", "checkpoint-4"]
