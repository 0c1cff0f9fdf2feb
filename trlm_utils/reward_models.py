"""Learned reward models: one score for a reply (outcome), or one per step (process).

Both start from a model of the course and read the whole rendered conversation. They are
trained in notebook 11 and saved like any other model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trlm_utils import chat, generation, process, world
from trlm_utils.models import check_model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_outcome(folder: Path) -> PreTrainedModel:
    """A sequence classifier with one output from a model folder, a judge's or a policy's.

    From a policy's folder the head is new and random.
    """
    from transformers import AutoModelForSequenceClassification

    check_model_folder(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()


def load_process(folder: Path) -> PreTrainedModel:
    """A token classifier (wrong, right) from a model folder; see `load_outcome`."""
    from transformers import AutoModelForTokenClassification

    check_model_folder(folder)
    return AutoModelForTokenClassification.from_pretrained(folder, num_labels=2).eval()


def _batches(model: Any, tokenizer: Any, texts: Sequence[str], size: int = 256) -> Any:
    """Logits of texts, a batch at a time, right padded."""
    for first in range(0, len(texts), size):
        inputs = tokenizer(
            list(texts[first : first + size]),
            add_special_tokens=False,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        ).to(model.device)
        yield inputs, model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])


def outcome_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[float]:
    """The score of each text, unbounded; only differences mean something.

    Args:
        texts: rendered prompt and completion.
    """
    scores: list[float] = []
    with generation.evaluating(model):
        for _, output in _batches(model, tokenizer, texts):
            scores += output.logits[:, 0].float().tolist()
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
    with generation.evaluating(model):
        texts = [prompt + completion for completion in completions]
        for inputs, output in _batches(model, tokenizer, texts):
            right = output.logits.float().softmax(-1)[..., 1]
            for ids, mask, row in zip(
                inputs["input_ids"], inputs["attention_mask"], right, strict=True
            ):
                own = ids[: int(mask.sum())][start:].tolist()
                chances.append([float(row[start + t]) for t in process.step_ends(own, tokenizer)])
    return chances


def process_row(
    tokenizer: PreTrainedTokenizerBase, problem: world.Problem, completion: str
) -> dict[str, list[int]]:
    """One training row of a process model: labels at the ends of steps, else -100.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels`` (1 right, 0 wrong).
    """
    prompt = chat.render(tokenizer, chat.to_prompt(problem.question), prompt=True)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    own = tokenizer(completion, add_special_tokens=False)["input_ids"]
    labels = [-100] * (len(before) + len(own))
    for end, right in process.steps(own, tokenizer, process.expected(problem)):
        labels[len(before) + end] = int(right)
    ids = before + own
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
