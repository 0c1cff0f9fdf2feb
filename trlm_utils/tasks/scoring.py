"""How lm-eval scores one question: the course's one checker, think-aware."""

from typing import Any

from trlm_utils import answers
from trlm_utils.models import END


def score_document(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """Mean accuracy, truncation and well-formedness over a question's completions.

    A completion that the model ended itself carries the end token (see
    `evaluation.ChatLM`); one without it, or with an unclosed thought, is truncated.
    An unclosed thought has no answer and is wrong.
    """
    (texts,) = results
    scores = [score_text(text, doc["answer"]) for text in texts]
    return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}


def score_text(text: str, gold: str) -> dict[str, float]:
    """The same for one completion; an unreadable gold answer counts as wrong."""
    body, ended, _ = text.partition(END)
    completion = answers.parse(body)
    return {
        "accuracy": float(bool(answers.grade(body, gold))),
        "truncated": float(completion.unclosed or not ended),
        "well_formed": float(completion.well_formed),
    }
