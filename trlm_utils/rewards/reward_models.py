"""Learned reward models: one score per reply (outcome), or one per step (process).

Both are initialised from a language model of the course and read the whole rendered
conversation. Notebook 11 trains and saves them like any other model.
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
    """Load a sequence classifier with one output from a model folder, a judge's or a policy's.

    From a policy's folder the classification head is newly initialised.
    """
    from transformers import AutoModelForSequenceClassification

    check_model_folder(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    return placed(model).eval()


def load_process(folder: Path) -> PreTrainedModel:
    """Load a token classifier (wrong, right) from a model folder; see `load_outcome`."""
    from transformers import AutoModelForTokenClassification

    check_model_folder(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, num_labels=2)
    return placed(model).eval()


def outcome_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[float]:
    """The unbounded score of each text; only differences between scores have a meaning.

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
    """The probability that each step of each thought is correct, by a process reward model.

    Args:
        prompt: the rendered prompt.

    Returns:
        One list per completion, with one probability per step.
    """
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
    """One training row of a process reward model: labels at the last tokens of steps.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (1 right, 0 wrong, -100 elsewhere).
    """
    prompt = chat.render(tokenizer, chat.to_prompt(problem.question), prompt=True)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    own = tokenizer(completion, add_special_tokens=False)["input_ids"]
    labels = [-100] * (len(before) + len(own))
    for end, right in step_rewards.steps(own, tokenizer, step_rewards.expected(problem)):
        labels[len(before) + end] = int(right)
    ids = before + own
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
