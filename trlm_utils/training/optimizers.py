"""Optimizers that Hugging Face's trainers do not offer by name.

A trainer takes one as ``optimizers=(optimizer, None)``; with None it makes its own
AdamW from its configuration. Schedules scale the rates of all groups alike.
"""

from __future__ import annotations

from typing import Any

OPTIMIZERS = ("muon", "adamw")
BETA2 = 0.98  # AdamW's memory of squared gradients: short, as these trainings are
FASTER = 10.0  # steps of the rows of added think tokens, as a multiple of the others'


def choose(name: str, model: Any, rate: float, matrix_rate: float) -> Any:
    """The optimizer of an SFT stage: `muon`, or None for the trainer's own AdamW.

    Raises:
        ValueError: for another name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    return muon(model, rate, matrix_rate) if name == "muon" else None


def muon(model: Any, rate: float, matrix_rate: float) -> Any:
    """Muon for the matrices inside the layers, AdamW for all else, in one optimizer.

    Muon takes the momentum of a weight matrix and makes all its singular values equal
    before it steps, so that rare directions are learned as fast as common ones (Jordan
    et al. 2024; by Newton-Schulz iteration). Embeddings, the output layer and vectors
    keep AdamW, as its authors advise. There is no weight decay.

    Args:
        rate: learning rate of AdamW.
        matrix_rate: learning rate of Muon, in units of its normalised step.

    Returns:
        A pytorch_optimizer.Muon with two parameter groups.

    Raises:
        ValueError: when the model has no weight matrices besides embeddings.
    """
    from pytorch_optimizer import Muon

    tables = {id(p) for p in _tables(model)}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim == 2 and id(p) not in tables]
    if not matrices:
        raise ValueError("the model has no weight matrices besides its embeddings")
    inside = {id(p) for p in matrices}
    others = [p for p in trained if id(p) not in inside]
    adam = {"lr": rate, "betas": (0.9, BETA2), "eps": 1e-8, "use_muon": False}
    return Muon(
        [{"params": matrices, "lr": matrix_rate, "use_muon": True}, {"params": others} | adam]
    )


def adamw(
    model: Any, rate: float, vector_rate: float, beta2: float = BETA2, decay: float = 0.0
) -> Any:
    """AdamW with a rate of its own for vectors: the scales of the norms, and biases.

    Args:
        rate: learning rate of everything with two or more dimensions.
        vector_rate: learning rate of what has one.
        decay: weight decay of what has two or more dimensions.
    """
    from torch.optim import AdamW

    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "lr": rate, "weight_decay": decay},
        {"params": [p for p in trained if p.ndim < 2], "lr": vector_rate},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, betas=(0.9, beta2), weight_decay=0.0)


def faster_rows(model: Any, factor: float = FASTER) -> list[Any]:
    """Callbacks that give the rows of added think tokens larger steps; none without them.

    A table of embeddings is one parameter, so its rows cannot have a group of their own.
    A larger gradient would change nothing either: Adam divides it by its own size. So the
    step is what is scaled: after the optimizer's, a row is moved ``factor`` times as far.

    Args:
        model: with ``think_token_rows`` in its config (see `models.add_think_tokens`).
        factor: of the learning rate; weight decay is scaled with it.
    """
    import torch
    from transformers import TrainerCallback

    rows = getattr(model.config, "think_token_rows", None)
    if not rows:
        return []
    tables = list({id(p): p for p in _tables(model) if p.ndim == 2}.values())

    class FasterRows(TrainerCallback):
        def on_pre_optimizer_step(self, *args, **kwargs):  # noqa: ANN002
            self.before = [table.detach()[rows] for table in tables]

        def on_optimizer_step(self, *args, **kwargs):  # noqa: ANN002
            with torch.no_grad():
                for table, before in zip(tables, self.before, strict=True):
                    table[rows] = before + factor * (table[rows] - before)

    return [FasterRows()]


def _tables(model: Any) -> list[Any]:
    """Parameters of the embedding and of the output layer."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return [p for layer in layers if layer is not None for p in layer.parameters()]
