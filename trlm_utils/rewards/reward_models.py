"""Learned reward models: one score for a reply (outcome), or one per step (process).

Both start from a model of the course and read the whole rendered conversation. They are
trained in notebook 11 and saved like any other model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trlm_utils import chat, generation, nanoworld
from trlm_utils.models import check_model_folder, placed
from trlm_utils.rewards import step_rewards

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_outcome(folder: Path) -> PreTrainedModel:
    """A sequence classifier with one output from a model folder, a judge's or a policy's.

    From a policy's folder the head is new and random.
    """
    from transformers import AutoModelForSequenceClassification

    check_model_folder(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    return placed(model).eval()


def load_process(folder: Path) -> PreTrainedModel:
    """A token classifier (wrong, right) from a model folder; see `load_outcome`."""
    from transformers import AutoModelForTokenClassification

    check_model_folder(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, num_labels=2)
    return placed(model).eval()


def outcome_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[float]:
    """The score of each text, unbounded; only differences mean something.

    Args:
        texts: rendered prompt and completion.
    """
    scores: list[float] = []
    for _, logits in generation.read(model, tokenizer, texts):
        scores += logits[:, 0].tolist()
    return scores


def step_chances(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    completions: Sequence[str],
) -> list[list[float]]:
    """The probability that each step of each thought is right, by a process model."""
    chances: list[list[float]] = []
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    texts = [prompt + completion for completion in completions]
    for encoded, logits in generation.read(model, tokenizer, texts):
        lengths = encoded["attention_mask"].sum(1).tolist()
        right = logits.softmax(-1)[..., 1].tolist()
        for ids, length, row in zip(encoded["input_ids"].tolist(), lengths, right, strict=True):
            ends = step_rewards.step_ends(ids[start:length], tokenizer)
            chances.append([row[start + end] for end in ends])
    return chances


def process_row(
    tokenizer: PreTrainedTokenizerBase, problem: nanoworld.Problem, completion: str
) -> dict[str, list[int]]:
    """One training row of a process model: labels at the ends of steps, else -100.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (1 right, 0 wrong).
    """
    prompt = chat.render(tokenizer, chat.to_prompt(problem.question), prompt=True)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    own = tokenizer(completion, add_special_tokens=False)["input_ids"]
    labels = [-100] * (len(before) + len(own))
    for end, right in step_rewards.steps(own, tokenizer, step_rewards.expected(problem)):
        labels[len(before) + end] = int(right)
    ids = before + own
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
