"""Optimizers that Hugging Face's trainers do not offer by name.

Pass one to a trainer as ``optimizers=(optimizer, None)``. With None in place of the optimizer
the trainer makes its own AdamW. The schedule scales the learning rates of all parameter
groups by the same factor.
"""

from __future__ import annotations

from typing import Any

from trlm_utils import ranks

OPTIMIZERS = ("muon", "adamw")
BETA2 = 0.98  # decay of AdamW's second moment: below the usual 0.999, as trainings are short
FASTER = 10.0  # factor on the learning rate of the embedding rows of added think tokens


def choose(name: str, model: Any, rate: float, matrix_rate: float) -> Any:
    """The optimizer of an SFT stage: `muon`, or None for the trainer's own AdamW.

    Args:
        name: "muon" or "adamw".
        rate, matrix_rate: see `muon`.

    Raises:
        ValueError: for another name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    return muon(model, rate, matrix_rate) if name == "muon" else None


def muon(model: Any, rate: float, matrix_rate: float) -> Any:
    """One optimizer with Muon for the weight matrices of the layers and AdamW for all else.

    Muon replaces the momentum of a weight matrix by a matrix with the same singular vectors
    and nearly equal singular values (by Newton-Schulz iteration), so that rare directions
    are learned as fast as common ones (Jordan et al. 2024). Embeddings, the output layer
    and vectors use AdamW, as its authors advise. There is no weight decay.

    Args:
        rate: learning rate of AdamW.
        matrix_rate: learning rate of Muon, which multiplies its normalised step.

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
    optimizer = Muon(
        [{"params": matrices, "lr": matrix_rate, "use_muon": True}, {"params": others} | adam]
    )
    for group in optimizer.param_groups:
        if "ns_coeffs" in group:  # by name: a checkpoint of FSDP turns its tuple into a list
            group["ns_coeffs"] = "original"
    return optimizer


def adamw(
    model: Any, rate: float, vector_rate: float, beta2: float = BETA2, decay: float = 0.0
) -> Any:
    """AdamW with a separate learning rate for vectors: scales of norm layers, and biases.

    Args:
        rate: learning rate of parameters with two or more dimensions.
        vector_rate: learning rate of parameters with one dimension.
        beta2: decay of the second moment.
        decay: weight decay of parameters with two or more dimensions.
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
    """Callbacks that raise the learning rate of the embedding rows of added think tokens.

    An embedding matrix is one parameter, so its rows cannot have their own parameter group.
    Scaling the gradient would have no effect, because Adam normalises it. So the update is
    scaled: after each optimizer step, these rows are moved ``factor`` times as far.

    Args:
        model: a model with ``think_token_rows`` in its config (`models.add_think_tokens`).
        factor: factor on the learning rate; weight decay is scaled too.

    Returns:
        A list with one callback; empty if no think tokens were added.

    Raises:
        ValueError: when they were, and the weights are divided among ranks.
    """
    import torch
    from transformers import TrainerCallback

    rows = getattr(model.config, "think_token_rows", None)
    if not rows:
        return []
    if ranks.divided():
        raise ValueError("with FSDP added think tokens cannot be trained faster: keep them text")
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
    """The parameters of the embedding layer and of the output layer."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return [p for layer in layers if layer is not None for p in layer.parameters()]
