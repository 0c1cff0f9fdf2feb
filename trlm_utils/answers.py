r"""The one checker: find the answer in a completion and compare it with the gold one.

Rewards and evaluation both call this module, so training and scoring cannot
disagree. What is graded is the text after ``</think>``; a thought that was opened
and never closed has no answer.

    >>> grade("<think> 2 + 2: 4.</think> The answer is 4.", gold="4")
    True
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import lru_cache

OPEN, CLOSE = "<think>", "</think>"

_SAID = re.compile(r"(?:answer is|answer:|####|\bA:)\s*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_WORD_ANSWER = re.compile(r"[^\W\d_]+")
_TAGS = re.compile(r"</?(?:answer|think)>")


@dataclass(frozen=True)
class Completion:
    """A completion taken apart.

    Attributes:
        thought: text between the tags, or None without a thought.
        answer: text after the thought (all of it without one); empty when the
            thought was never closed.
        unclosed: a thought was opened and not closed.
        well_formed: exactly one non-empty thought, closed, then a non-empty answer.
    """

    thought: str | None
    answer: str
    unclosed: bool
    well_formed: bool


def parse(text: str, prefilled: bool = False) -> Completion:
    """Take a completion apart at its think tags.

    Args:
        text: the completion, special tokens already removed.
        prefilled: the prompt already ended in ``<think>``.
    """
    if prefilled or (CLOSE in text and OPEN not in text):
        text = OPEN + text
    if OPEN not in text:
        return Completion(None, text.strip(), False, False)
    before, rest = text.split(OPEN, 1)
    if CLOSE not in rest:
        return Completion(rest.strip(), "", True, False)
    thought, answer = rest.rsplit(CLOSE, 1)
    one_each = text.count(OPEN) == 1 and text.count(CLOSE) == 1
    tidy = one_each and not before.strip() and thought.strip() and answer.strip()
    unclosed = OPEN in answer
    return Completion(thought.strip(), "" if unclosed else answer.strip(), unclosed, bool(tidy))


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` (braces balanced), or None."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    begin = start + len(r"\boxed{")
    depth = 1
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin:i]
    return None


def extract(text: str) -> str | None:
    r"""The answer stated in the text after the thought, or None.

    Looked for in this order: the last ``\boxed{}``; the last "answer is ...",
    "Answer: ...", "#### ..." or "A: ..."; the last number; a text of one word.
    """
    text = _TAGS.sub(" ", text)
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed.strip()
    said = _SAID.findall(text)
    if said:
        return said[-1].strip().rstrip(".").strip()
    numbers = _NUMBER.findall(text)
    if numbers:
        return numbers[-1]
    words = _WORD_ANSWER.findall(text)
    return words[0] if len(words) == 1 else None


def as_number(text: str) -> float | None:
    """Read one plain number: sign, thousands separators, currency, unit or percent.

    ``$1,200`` is 1200 and ``18 apples`` is 18, but ``17 or 18`` is None: two numbers
    are not an answer. A percent sign is dropped, not divided by: a question that
    asks "what percent" has gold answers without the sign.
    """
    found = _NUMBER.findall(text)
    if len(found) != 1:
        return None
    # Anything that makes it an expression and not one number is left to math-verify.
    if re.search(r"[\\^=+*/(){}\[\]]|\d\s*-|[A-Za-z]\d|\d[A-Za-z]", text):
        return None
    try:
        return float(found[0].replace(",", ""))
    except ValueError:  # e.g. "1,": a separator with nothing behind it
        return None


def equal(answer: str, gold: str) -> bool | None:
    """Whether two answers mean the same; None when the gold one cannot be read.

    Plain numbers and words are compared directly (microseconds), anything else goes
    to math-verify, gold first because its comparison is not symmetric.
    """
    answer, gold = answer.strip(), gold.strip()
    if not gold:
        return None
    if _fold(answer) == _fold(gold):
        return True
    gold_number = as_number(gold)
    if gold_number is not None:
        answer_number = as_number(answer)
        if answer_number is not None:
            return abs(answer_number - gold_number) <= 1e-6 * max(1, abs(gold_number))
        if not re.search(r"[\d\\]", answer):
            return False
    if _WORD_ANSWER.fullmatch(gold):
        return False  # a one-word answer has one spelling
    return _equal_by_math_verify(answer, gold)


def grade(text: str, gold: str, prefilled: bool = False) -> bool | None:
    """Grade a whole completion: True, False, or None for an unreadable gold answer."""
    stated = extract(parse(text, prefilled).answer)
    if stated is None:
        return None if not gold.strip() else False
    return equal(stated, gold)


def gsm8k_gold(solution: str) -> str | None:
    """The number after ``####`` in a GSM8K solution, without separators, or None."""
    _, mark, number = solution.rpartition("####")
    return number.strip().replace(",", "") if mark and number.strip() else None


def _fold(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .$").casefold()


@lru_cache(maxsize=4096)
def _equal_by_math_verify(answer: str, gold: str) -> bool | None:
    """Compare with math-verify; hostile input ends as "not equal", never as an error."""
    from math_verify import parse as read
    from math_verify import verify

    if len(answer) > 500:  # no real answer is this long; sympy may take forever on it
        return False
    # math-verify's own time limit is a signal, which only the main thread may set.
    main = threading.current_thread() is threading.main_thread()
    limit = 5 if main else None
    try:
        wanted = read(rf"$\boxed{{{gold}}}$", parsing_timeout=limit)
        if not wanted:
            return None
        stated = read(rf"$\boxed{{{answer}}}$", parsing_timeout=limit)
        return bool(stated) and bool(verify(wanted, stated, timeout_seconds=limit))
    except Exception:  # sympy raises many kinds of errors on nonsense
        return False
