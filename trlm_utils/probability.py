"""How probable a reference answer is to the model itself, after its own reasoning.

The measure behind the reward of RLPR (Yu et al. 2025, *RLPR: Extrapolating RLVR to
General Domains without Verifiers*): where no rule can verify an answer, ask how much
more probable the reasoning made the known one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trlm_utils import answers, generation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Span = tuple[int, int]


def before_the_answer(completion: str) -> str | None:
    """A completion up to where its answer begins; None where it never gets there.

    >>> before_the_answer("<think> 2 + 3: 5.</think> The answer is 5.")
    '<think> 2 + 3: 5.</think> '
    """
    for mark in ("<answer>", answers.CLOSE, "</reasoning>"):
        head, found, _ = completion.rpartition(mark)
        if found:
            return head + found + " " * (mark != "<answer>")
    opened = answers.OPEN in completion or "<reasoning>" in completion
    return None if opened else ""


def without_reasoning(completion: str) -> str:
    """Where the answer would begin had the model not reasoned at all."""
    return "<answer>" if "<answer>" in completion else ""


def scored_span(reference: str, answer: str = "") -> Span:
    """Which characters of a reference count: the answer in it, else all of it.

    Only the last occurrence counts; words around a short answer are probable anyway.
    """
    start = reference.rfind(answer) if answer else -1
    return (start, start + len(answer)) if start >= 0 else (0, len(reference))


def mean_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[str],
    references: Sequence[str],
    spans: Sequence[Span],
    batch_size: int = 256,
) -> list[float]:
    """Mean probability of the tokens of ``references[i][span]`` after ``contexts[i]``.

    The mean of probabilities, not their product: RLPR found it far less noisy.

    Args:
        contexts: rendered text before the reference.
        spans: characters of each reference that count, first and one past the last.

    Raises:
        ValueError: for a span that holds no token.
    """
    import torch

    means: list[float] = []
    with generation.evaluating(model):
        for first in range(0, len(contexts), batch_size):
            part = slice(first, first + batch_size)
            texts = [c + r for c, r in zip(contexts[part], references[part], strict=True)]
            encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
            ids = [torch.tensor(row) for row in encoded["input_ids"]]
            padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], True)
            inputs = {"input_ids": padded.to(model.device), "attention_mask": mask.to(model.device)}
            chance = model(**inputs, use_cache=False).logits[:, :-1].float().softmax(-1)
            of_next = chance.gather(-1, inputs["input_ids"][:, 1:, None])[..., 0].cpu()
            rows = zip(encoded["offset_mapping"], contexts[part], spans[part], strict=True)
            for i, (offsets, context, (start, end)) in enumerate(rows):
                start, end = start + len(context), end + len(context)
                chosen = [t - 1 for t, (a, b) in enumerate(offsets) if b > start and a < end and t]
                if not chosen:
                    raise ValueError(f"no token between characters {start} and {end}")
                means.append(float(of_next[i, chosen].mean()))
    return means


def gains(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    completions: Sequence[str],
    references: Sequence[str],
    given: Sequence[str],
) -> list[float]:
    """RLPR's reward: ``clip(p(reference | reasoning) - p(reference | none), 0, 1)``.

    Args:
        prompts: rendered prompts.
        references: the reply that should follow the reasoning.
        given: the answer within each reference, or "" where all of it counts.

    Returns:
        One number in [0, 1] each; 0 for a completion that never gets to an answer.
    """
    heads = [before_the_answer(text) for text in completions]
    reached = [i for i, head in enumerate(heads) if head is not None]
    contexts = [prompts[i] + str(heads[i]) for i in reached]
    plain = [prompts[i] + without_reasoning(completions[i]) for i in reached]
    wanted = [references[i] for i in reached]
    spans = [scored_span(references[i], given[i]) for i in reached]
    unique = dict.fromkeys(zip(plain, wanted, spans, strict=True))
    if reached:
        known = mean_probabilities(model, tokenizer, *map(list, zip(*unique, strict=True)))
        unique = dict(zip(unique, known, strict=True))
    after = mean_probabilities(model, tokenizer, contexts, wanted, spans)
    found = dict.fromkeys(range(len(completions)), 0.0)
    for i, p, key in zip(reached, after, zip(plain, wanted, spans, strict=True), strict=True):
        found[i] = min(1.0, max(0.0, p - float(unique[key] or 0.0)))
    return [found[i] for i in range(len(completions))]
