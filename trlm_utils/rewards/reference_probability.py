"""Probability of a reference answer under the policy, given the policy's own reasoning.

This is the basis of the reward of RLPR (Yu et al. 2025, *RLPR: Extrapolating RLVR to
General Domains without Verifiers*). Where no rule can verify an answer, the reward is how
much the reasoning increased the probability of the reference answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trlm_utils import answers, generation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Span = tuple[int, int]  # range of characters: first, and one past the last

TOKENS = 32_768  # tokens in one forward pass, padding included
LOGITS = 2_048  # positions with logits in one forward pass


def before_the_answer(completion: str) -> str | None:
    """The part of a completion before its answer; None if the thought is never closed.

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
    """The text before the answer if the model had not reasoned: ``<answer>`` or nothing."""
    return "<answer>" if "<answer>" in completion else ""


def scored_span(reference: str, answer: str = "") -> Span:
    """Range of characters of a reference that count: the answer in it, else all of it.

    It is the last occurrence of the answer. The words around a short answer do not count,
    because they are probable anyway.
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

    The mean of the probabilities, not their product, because RLPR found it far less noisy.
    Logits are computed only at positions that predict a counted token; `batches` bounds the
    memory.

    Args:
        contexts: rendered text before the reference.
        spans: range of characters of each reference that counts.
        batch_size: largest number of texts in one forward pass.

    Returns:
        One probability in [0, 1] per reference.

    Raises:
        ValueError: for a span without a token.
    """
    texts = [context + text for context, text in zip(contexts, references, strict=True)]
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    ids, wanted = encoded["input_ids"], []
    columns = zip(contexts, spans, encoded["offset_mapping"], strict=True)
    for context, (start, end), offsets in columns:
        wanted.append(tokens_in(offsets, (start + len(context), end + len(context))))
    means = [0.0] * len(texts)
    for batch in batches([len(row) for row in ids], wanted, batch_size):
        rows, places = [ids[i] for i in batch], [wanted[i] for i in batch]
        for i, chances in zip(batch, _probabilities(model, rows, places), strict=True):
            means[i] = sum(chances) / len(chances)
    return means


def tokens_in(offsets: Sequence[Span], span: Span) -> list[int]:
    """Positions of the tokens that overlap a range of characters.

    The first token of a text is never included, because no token predicts it.

    Raises:
        ValueError: when there is no such token.
    """
    start, end = span
    found = [place for place, (a, b) in enumerate(offsets) if place and b > start and a < end]
    if not found:
        raise ValueError(f"no token between characters {start} and {end}")
    return found


def batches(
    lengths: Sequence[int], wanted: Sequence[Sequence[int]], batch_size: int
) -> Iterator[list[int]]:
    """Split texts into batches for a forward pass, with texts of similar length together.

    A batch has at most ``batch_size`` texts, `TOKENS` tokens including padding, and `LOGITS`
    positions with logits. Logits are computed at the same positions in all texts of a batch:
    at each position where at least one text needs them. A single text may exceed the limits.

    Args:
        lengths: number of tokens of each text.
        wanted: positions of the counted tokens of each text.

    Yields:
        Indices of the texts of one batch.
    """
    batch: list[int] = []
    positions: set[int] = set()
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        size, kept = len(batch) + 1, positions | set(wanted[i])
        fits = size * lengths[i] <= TOKENS and size * len(kept) <= LOGITS
        if batch and not (fits and size <= batch_size):
            yield batch
            batch, kept = [], set(wanted[i])
        batch, positions = [*batch, i], kept
    if batch:
        yield batch


def _probabilities(
    model: PreTrainedModel, rows: Sequence[list[int]], wanted: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The probability of each wanted token given all tokens before it, by one forward pass."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    positions = sorted({place for places in wanted for place in places})
    kept = torch.tensor(positions) - 1  # logits at a position predict the next token
    following = ids[:, kept + 1, None].to(model.device)
    with generation.evaluating(model):
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            use_cache=False,
            logits_to_keep=kept.to(model.device),
        ).logits.float()
        chosen = logits.gather(-1, following)[..., 0]
        chances = (chosen - logits.logsumexp(-1)).exp().tolist()
    column = {place: k for k, place in enumerate(positions)}
    return [
        [row[column[place]] for place in places]
        for row, places in zip(chances, wanted, strict=True)
    ]


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
        completions: the policy's completions, with reasoning.
        references: the reply that should follow the reasoning.
        given: the answer within each reference, or "" where all of it counts.

    Returns:
        One number in [0, 1] per completion; 0 for one whose thought is never closed.
    """
    found = [0.0] * len(completions)
    heads = {i: before_the_answer(text) for i, text in enumerate(completions)}
    contexts = {i: prompts[i] + head for i, head in heads.items() if head is not None}
    if not contexts:
        return found
    wanted = {i: (references[i], scored_span(references[i], given[i])) for i in contexts}
    plain = {i: (prompts[i] + without_reasoning(completions[i]), *wanted[i]) for i in contexts}
    unique = list(dict.fromkeys(plain.values()))  # a group shares p(reference | none)
    known = dict(
        zip(unique, mean_probabilities(model, tokenizer, *zip(*unique, strict=True)), strict=True)
    )
    after = mean_probabilities(
        model, tokenizer, list(contexts.values()), *zip(*wanted.values(), strict=True)
    )
    for i, reasoned in zip(contexts, after, strict=True):
        found[i] = min(1.0, max(0.0, reasoned - known[plain[i]]))
    return found
