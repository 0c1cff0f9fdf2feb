"""Sampling from a model: one function for pairs, probes and evaluation.

Prompts are sorted by length and run in large batches through transformers'
``generate``; on a CPU with a model this small the cost of a step hardly depends on
the batch, so a large batch is most of the speed there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sample:
    """One completion: its text, its length in tokens, and whether the model ended it.

    ``finished`` is False when the token budget ran out first. The length counts the
    end token.
    """

    text: str
    tokens: int
    finished: bool


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 256,
    seed: int | None = None,
) -> list[Sample]:
    """Complete rendered prompts, one completion each, in the order given.

    Args:
        prompts: rendered text (see `chat.render`), not messages.
        max_new_tokens: token budget of a completion.
        temperature: 0 means greedy; otherwise plain sampling from the whole
            distribution (no top-k, no top-p).
        batch_size: prompts in one call of ``generate``.
        seed: if given, seeds torch before sampling (greedy does not draw).

    Raises:
        ValueError: when a prompt and the budget do not fit into the model's context.
    """
    import torch

    if seed is not None:
        torch.manual_seed(seed)
    encoded = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    context = model.config.max_position_embeddings
    longest = max((len(ids) for ids in encoded), default=0)
    if longest + max_new_tokens > context:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit "
            f"into the model's context of {context}: lower MAX_NEW_TOKENS"
        )
    was_training = model.training
    model.eval()  # in train mode a checkpointed layer drops its cache
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    results: dict[int, Sample] = {}
    try:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            samples = _sample_batch(
                model,
                tokenizer,
                [encoded[i] for i in batch],
                max_new_tokens,
                temperature,
            )
            results.update(zip(batch, samples, strict=True))
    finally:
        model.train(was_training)
    return [results[i] for i in range(len(encoded))]


def _sample_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: list[list[int]],
    max_new_tokens: int,
    temperature: float,
) -> list[Sample]:
    import torch

    inputs = tokenizer.pad({"input_ids": encoded}, padding_side="left", return_tensors="pt").to(
        model.device
    )
    drawing = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        drawing = {
            "do_sample": True,
            "temperature": temperature,
            "top_k": 0,
            "top_p": 1.0,
        }
    end = tokenizer.eos_token_id
    with torch.no_grad():
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
            **drawing,
        )
    samples = []
    for row in output[:, inputs["input_ids"].shape[1] :].tolist():
        finished = end in row
        ids = row[: row.index(end)] if finished else row
        text = tokenizer.decode(ids, skip_special_tokens=True)
        samples.append(Sample(text, len(ids) + finished, finished))
    return samples
