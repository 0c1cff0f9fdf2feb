"""Scoring functions for lm-eval: they use the course's answer checker, which parses thoughts."""

import re
from typing import Any

from trlm_utils import answers
from trlm_utils.tokenization import END


def score_document(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """Mean accuracy, truncation and well-formedness over a question's completions.

    A completion that the model ended itself contains the end token (see
    `chat_lm`). One without it, or with an unclosed thought, is truncated.
    A completion with an unclosed thought has no answer, so it is wrong.
    """
    (texts,) = results
    scores = [score_text(text, doc["answer"]) for text in texts]
    return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}


# a letter in a box, or after a word that announces it
_LETTER = re.compile(
    r"(?:(?i:answer|option|choice)\W+(?:is\W+)?|boxed\{\W*(?:text\{)?\W*)([A-D])\b"
)


def score_options(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """Like `score_document`, for a question whose answer is a letter.

    Models state it in many ways ("B", "B) 5 eV", "the option is **B**"). The last letter that
    is announced counts.
    """
    (texts,) = results
    letters = []
    for text in texts:
        body, _, _ = text.partition(END)
        stated = _LETTER.findall(answers.parse(body).answer)
        letters.append(float(stated[-1:] == [doc["answer"]]))
    return score_document(doc, results) | {"accuracy": sum(letters) / len(letters)}


def score_text(text: str, gold: str) -> dict[str, float]:
    """Scores of one completion; an unreadable gold answer counts as wrong."""
    body, ended, _ = text.partition(END)
    completion = answers.parse(body)
    accuracy = {"accuracy": float(bool(answers.grade(body, gold)))}
    return accuracy | form(completion, bool(ended))


def form(completion: answers.Completion, ended: bool) -> dict[str, float]:
    """Whether a completion was truncated, and whether it is well-formed."""
    return {
        "truncated": float(completion.unclosed or not ended),
        "well_formed": float(completion.well_formed),
    }
