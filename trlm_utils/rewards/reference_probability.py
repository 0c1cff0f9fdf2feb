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
    means: list[float] = []
    texts = [context + text for context, text in zip(contexts, references, strict=True)]
    wanted = zip(contexts, spans, strict=True)
    for encoded, logits in generation.read(model, tokenizer, texts, batch_size):
        following = encoded["input_ids"][:, 1:, None].to(logits.device)
        chances = logits[:, :-1].softmax(-1).gather(-1, following)[..., 0].tolist()
        for row, offsets in zip(chances, encoded["offset_mapping"].tolist(), strict=True):
            context, (start, end) = next(wanted)
            start, end = start + len(context), end + len(context)
            places = zip(row, offsets[1:], strict=True)
            chosen = [p for p, (a, b) in places if b > start and a < end]
            if not chosen:
                raise ValueError(f"no token between characters {start} and {end}")
            means.append(sum(chosen) / len(chosen))
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
    found = [0.0] * len(completions)
    heads = {i: before_the_answer(text) for i, text in enumerate(completions)}
    contexts = {i: prompts[i] + head for i, head in heads.items() if head is not None}
    if not contexts:
        return found
    wanted = {i: (references[i], scored_span(references[i], given[i])) for i in contexts}
    plain = {i: (prompts[i] + without_reasoning(completions[i]), *wanted[i]) for i in contexts}
    unique = list(dict.fromkeys(plain.values()))  # a group shares what it would say at once
    known = dict(
        zip(unique, mean_probabilities(model, tokenizer, *zip(*unique, strict=True)), strict=True)
    )
    after = mean_probabilities(
        model, tokenizer, list(contexts.values()), *zip(*wanted.values(), strict=True)
    )
    for i, reasoned in zip(contexts, after, strict=True):
        found[i] = min(1.0, max(0.0, reasoned - known[plain[i]]))
    return found
