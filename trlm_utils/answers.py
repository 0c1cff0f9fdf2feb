r"""The answer checker: extract the answer of a completion and compare it with the gold answer.

Rewards and evaluation both call this module, so training and evaluation grade alike.
The text after ``</think>`` is graded. A completion whose thought is opened but never
closed has no answer.

    >>> grade("<think> 2 + 2: 4.</think> The answer is 4.", gold="4")
    True
"""

from __future__ import annotations

import re
import signal
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from trlm_utils.latex_values import plainly_different
from trlm_utils.quantity import as_number, bare, is_finished
from trlm_utils.statement import stated, without_asides

OPEN, CLOSE = "<think>", "</think>"

# Phrases that announce an answer; the last one in a text counts.
_MARK = re.compile(
    r"(?:answer(?: is| would be| should be|:|\s*=)|####(?=\s*[-−$0-9.])|^A:)[\s:*]*(?=\S)"
    r"(?:(?:therefore|thus|then|simply|just|about|around|approximately)\b,?\s*)?",
    re.IGNORECASE | re.MULTILINE,
)
# Where the answer ends and a comment on it begins, unless the comment withdraws the answer.
_TALK = re.compile(
    r"(?<=[^\s.])[.!?]\s+(?=[A-Z]|[(\[][^\W\d_])|,?\s+(?:because|since|as(?! well)|which)\s"
    r"|(?<=\d)(?:\s[^\W\d_]+){0,3}?(?:,\s|\s[-–—]\s)(?=(?:the|that|this|it|he|she|they|we|so|when)\b)"
)
_TAKEN_BACK = re.compile(
    r"^\W*(?:no|not|or)\b|\b(?:wait|actually|rather|instead|maybe|perhaps|possibly|wrong)\b"
    r"|\bno[,.!]|\bnot (?:right|correct|sure|true|it)\b|\bor (?:is |it |even )*(?:[$\d-]|[A-Z])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_WORDS = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]+)*")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TAGS = re.compile(r"</?(?:answer|think|reasoning)>")
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|\Z)", re.DOTALL)
# Text allowed between two boxes that offer alternative answers.
_BESIDE = re.compile(r"[\s$]*,?\s*(?:or|and)?[\s$]*(?:[a-z]\s*=)?[\s$]*")
_OR = re.compile(r"\bor\s+(?:maybe\s+)?(?:the\s+)?$", re.IGNORECASE)  # between two answers
_UNSOLVED = re.compile(r"[a-zA-Z]\s*[-+]\s*\w|\d\s*[-+]\s*[a-zA-Z]")
_WITH_UNIT = re.compile(r"(?<![\w.])[0-9.,]*[0-9]\s+[a-zA-Z]+")
# Forms for which sympy may need minutes; they are compared only if the gold answer has one.
_COSTLY = re.compile(
    r"\\(?:sum|prod|int|lim|binom)|\^\s*\{?\s*[0-9.]{3,}|\^[^,]*\^|[0-9]{3,}\s*!|[)}\]]\s*!"
)


@dataclass(frozen=True)
class Completion:
    """A completion split into thought and answer.

    Attributes:
        thought: text between the tags, or None if there is no thought.
        answer: text after the thought, or the whole text if there is no thought; empty
            when the thought was never closed.
        unclosed: whether a thought was opened and not closed.
        well_formed: whether there is exactly one non-empty, closed thought, and a
            non-empty answer after it.
    """

    thought: str | None
    answer: str
    unclosed: bool
    well_formed: bool


def parse(text: str, prefilled: bool = False) -> Completion:
    """Split a completion at its think tags, or if it has none, at its <reasoning> tags.

    Args:
        text: the completion, special tokens already removed.
        prefilled: whether the prompt ended in ``<think>``, so that the completion lacks it.
    """
    if OPEN not in text and CLOSE not in text:
        text = text.replace("<reasoning>", OPEN).replace("</reasoning>", CLOSE)
    if prefilled or (CLOSE in text and OPEN not in text):
        text = OPEN + text
    if OPEN not in text:
        return Completion(None, text.strip(), False, False)
    before, rest = text.split(OPEN, 1)
    if CLOSE not in rest:
        return Completion(rest.strip(), "", True, False)
    thought, answer = rest.rsplit(CLOSE, 1)
    one_each = text.count(OPEN) == 1 and text.count(CLOSE) == 1
    said = re.search(r"\w", thought) and re.search(r"\w", answer)
    tidy = one_each and not before.strip() and said
    unclosed = OPEN in answer
    return Completion(thought.strip(), "" if unclosed else answer.strip(), unclosed, bool(tidy))


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}`` (braces balanced), or None."""
    boxes = list(_BOX.finditer(text))
    return _content(text, boxes[-1].end()) if boxes else None


def _content(text: str, begin: int) -> str | None:
    """The text from ``begin`` to the brace that closes there, or None."""
    depth = 1
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin:i]
    return None


def count_boxes(text: str) -> int:
    r"""Number of ``\boxed{`` in a text."""
    return len(_BOX.findall(text))


def extract(text: str) -> str | None:
    r"""The answer stated in the text after the thought, or None.

    The forms are tried in this order: ``<answer>...</answer>``; the last ``\boxed{}``; the
    last "answer is ...", "Answer: ...", "#### 5" or line starting with "A:"; and if none of
    these occurs, whatever `statement.stated` finds. If a text offers several alternative
    answers, they are returned as one list, so that it equals no single gold answer.
    """
    if "answer>" not in text:
        return _in_words(text)
    if "<answer>" not in text:  # the prompt opened the tag
        text = f"<answer>{text}"
    offered = [_in_words(part) for part in _ANSWER.findall(text) if part.strip()]
    if not any(offered):
        return _in_words(text)
    after = text.rsplit("</answer>", 1)[1] if "</answer>" in text else ""
    if re.search(r"\w", after) and re.match(_TAKEN_BACK, after):
        offered.append(after)
    return ", ".join(dict.fromkeys(filter(None, offered)))


def _in_words(text: str) -> str | None:
    """The answer in a text, whatever its tags."""
    text = _TAGS.sub(" ", text)
    boxes = list(_BOX.finditer(text))
    if boxes and (boxed := _content(text, boxes[-1].end())) is not None:
        return _beside(text, boxes) or boxed.strip()
    marks = list(_MARK.finditer(text))
    if len(marks) > 1 and _OR.search(text[: marks[-1].start()]):
        return _stated(text[marks[-2].end() :].split("\n")[0])
    if marks:
        return _stated(text[marks[-1].end() :].split("\n")[0])
    return stated(text)


def _beside(text: str, boxes: list[re.Match[str]]) -> str | None:
    r"""The alternatives of ``\boxed{3} or \boxed{4}`` as one list; None if there are none."""
    if len(boxes) < 2:
        return None
    contents = [_content(text, box.end()) or "" for box in boxes]
    offered = [contents[-1]]
    for box, content, following in zip(boxes[-2::-1], contents[-2::-1], boxes[:0:-1], strict=True):
        between = text[box.end() + len(content) + 1 : following.start()]
        if not re.search(r"or|and|,", between) or not _BESIDE.fullmatch(between):
            break
        offered.insert(0, content)
    return ", ".join(dict.fromkeys(offered)) if len(offered) > 1 else None


def _stated(line: str) -> str:
    """The answer at the beginning of a line, without any comment on it."""
    parts = re.split(_TALK, line, maxsplit=1)
    first = parts[0]
    if len(parts) > 1 and _TAKEN_BACK.search(without_asides(parts[1])):
        first = line
    return without_asides(first.strip(" *_`").rstrip(".").strip(" *_`"))


def equal(answer: str, gold: str) -> bool | None:
    """Whether an answer is equivalent to the gold answer; None if the gold answer is unreadable.

    Plain numbers and words are compared directly, which takes microseconds. All else is
    compared by math-verify, gold answer first because its comparison is not symmetric.
    An expression with arithmetic left to do ("34 + 3" for 37) does not count as correct.
    """
    answer, gold = _tidy(answer), _tidy(gold)
    gold_number = as_number(gold, letters=False)
    if gold_number is not None and (number := as_number(answer)) is not None:
        return _close(number, gold_number)
    folded = _fold(gold)
    if not folded:
        return None
    if _fold(answer) == folded:
        return True
    if re.match(r"(?:n't|not)\b", answer, re.IGNORECASE):
        return False
    if gold_number is not None:
        verdict = _equal_number(answer, gold_number)
        if verdict is not None:
            return verdict
        answer = bare(answer.split("=")[-1])
    if _WORD.fullmatch(gold):
        word = _bare_word(answer)  # x and X are two variables, but ben is Ben
        return word == gold or (len(gold) > 1 and word.casefold() == gold.casefold())
    if _COSTLY.search(answer) and not _COSTLY.search(gold):
        return False
    if plainly_different(answer, gold):
        return False
    return _equal_by_math_verify(answer, gold)


def _equal_number(answer: str, gold: float | int) -> bool | None:
    """Compare with a gold number; None when math-verify has to read the text after the last "=".

    ``2 + 2 = 4`` and ``x = 4`` end in a finished number. ``34 + 3`` and ``x + 1 = 4`` leave
    the arithmetic to the checker: accepting them would reward copying the question.
    """
    if re.search(r"[<>≤≥≠]|!=", answer):
        return False
    offered = re.split(r",?\s+or\s+|,\s+", answer)
    if len(offered) > 1:
        names = {one.partition("=")[0].strip() for one in offered if "=" in one}
        if len(names) < len(offered) or " or " in answer:  # 3/4, or 0.75: one number, two forms
            return len(offered) < 4 and all(equal(one, str(gold)) for one in offered)
        answer = offered[-1]  # x = 5, y = 3
    *before, last = (side.strip() for side in answer.split("="))
    said = [n for side in before if "!" not in side and (n := as_number(side)) is not None]
    if any(map(_is_unsolved, before)) or not all(_close(n, gold) for n in said):
        return False
    last = re.sub(r"^[\[{]([^\[\]{}]*)[\]}]$", r"\1", last)
    number = as_number(last)
    if number is not None:
        return _close(number, gold)
    return None if is_finished(bare(last)) else False


def _is_unsolved(side: str) -> bool:
    """Whether one side of an equation has a variable; the unit in ``5 m + 3 m`` is none."""
    return bool(_UNSOLVED.search(side)) and bool(_UNSOLVED.search(_WITH_UNIT.sub("1", side)))


def _close(value: float | int, gold: float | int) -> bool:
    """Whether two numbers agree: whole numbers exactly, others to a relative 1e-6."""
    if isinstance(gold, int) or gold.is_integer():
        return value == gold
    return abs(value - gold) <= 1e-6 * abs(gold)


def _tidy(text: str) -> str:
    r"""Remove marks without meaning for the value: bold, math delimiters, thin spaces."""
    if text.isalnum():  # nothing to remove
        return text
    text = re.sub(r",\\!\s*", ",", text)  # 11,\! 111: a thousands separator set in LaTeX
    for mark in ("**", r"\(", r"\)", r"\[", r"\]", r"\,", r"\!"):
        text = text.replace(mark, "")
    text = text.replace("−", "-").replace("°", r"^\circ").strip()
    return re.sub(r"^\$([^$]+)\$(?=\s|$)", r"\1", text).strip()  # $18$ dollars


def _bare_word(text: str) -> str:
    r"""The word in ``\text{Ben}`` or ``"Ben"!``."""
    text = re.sub(r"\\(?:text|textbf|mathrm)\{([^{}]*)\}", r"\1", text)
    return unicodedata.normalize("NFKC", text).strip(" *_`\"'!?.()$")


def grade(text: str, gold: str, prefilled: bool = False) -> bool | None:
    """Grade a whole completion: True, False, or None for an unreadable gold answer.

    Args:
        text: the completion.
        gold: the gold answer.
        prefilled: see `parse`.
    """
    gold = "" if gold is None else str(gold)
    found = extract(parse(text, prefilled).answer)
    if found is None:
        return None if not gold.strip() else False
    return equal(found, gold)


def answer_key(text: str) -> float | str | None:
    """What counts as the same answer in a vote: a number's value, else the words; None without.

    Args:
        text: a completion.
    """
    found = extract(parse(text).answer)
    if found is None:
        return None
    number = as_number(found)
    return found.strip(" .").casefold() if number is None else float(number)


def elected(texts: Sequence[str]) -> str | None:
    """The first completion with the answer that most completions give; None if none has one.

    Of answers with equally many votes the one that comes first is taken. This is
    self-consistency (Wang et al. 2022).
    """
    keys = [answer_key(text) for text in texts]
    votes = Counter(key for key in keys if key is not None)
    if not votes:
        return None
    winner = max(votes, key=votes.__getitem__)  # of equals the first: a Counter keeps order
    return texts[keys.index(winner)]


def gsm8k_gold(solution: str) -> str | None:
    """The number after ``####`` in a GSM8K solution, without separators, or None."""
    found = re.search(r"####\s*\$?(-?[0-9,]*\.?[0-9]+)", solution)
    return found[1].replace(",", "") if found else None


def _fold(text: str) -> str:
    """Normalise text for a direct comparison; case matters in formulas, not in words."""
    text = re.sub(r"\s+", " ", text).rstrip(" .$").lstrip(" $")
    return text.casefold() if _WORDS.fullmatch(text) else text


@lru_cache(maxsize=4096)
def _equal_by_math_verify(answer: str, gold: str) -> bool | None:
    """Compare with math-verify; input that it fails on counts as not equal, without an error."""
    from math_verify import verify

    if len(answer) > 500 or not _one_formula(answer):
        return False
    # math-verify's time limit uses a signal, which only the main thread may set. It also
    # cancels an alarm that the caller has set, so that alarm is restored afterwards.
    main = threading.current_thread() is threading.main_thread()
    alarm = signal.alarm(0) if main and hasattr(signal, "alarm") else 0
    limit = 2 if main else None
    try:
        wanted = _parsed(gold, limit)
        if not wanted:
            return None
        found = _parsed(answer, limit)
        return bool(found) and bool(verify(wanted, found, timeout_seconds=limit))
    except Exception:  # sympy raises many kinds of errors on nonsense
        return False
    finally:
        if alarm:
            signal.alarm(alarm)


def forget() -> None:
    """Empty the caches of parsed and compared formulas."""
    _parsed.cache_clear()
    _equal_by_math_verify.cache_clear()


@lru_cache(maxsize=4096)
def _parsed(formula: str, limit: int | None) -> list:
    """A formula as math-verify parses it; cached, because one gold answer grades many replies."""
    from math_verify import parse

    return parse(rf"$\boxed{{{formula}}}$", parsing_timeout=limit)


def _one_formula(text: str) -> bool:
    r"""Whether text fits inside one ``\boxed{}``: balanced braces, no further box, no dollar."""
    depth = 0
    for sign in re.sub(r"\\[{}]", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0 and r"\boxed" not in text and "$" not in text.replace(r"\$", "").strip("$")
