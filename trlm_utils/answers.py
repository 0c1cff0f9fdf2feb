r"""The one checker: find the answer in a completion and compare it with the gold one.

Rewards and evaluation both call this module, so training and scoring cannot
disagree. What is graded is the text after ``</think>``; a thought that was opened
and never closed has no answer.

    >>> grade("<think> 2 + 2: 4.</think> The answer is 4.", gold="4")
    True
"""

from __future__ import annotations

import re
import signal
import threading
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from trlm_utils.latex_values import plainly_different

OPEN, CLOSE = "<think>", "</think>"
MAX_DIGITS = 300  # of a number that is compared directly

# What announces an answer; the last one counts.
_MARK = re.compile(
    r"(?:answer is|answer:|####(?=\s*[-−$0-9.])|^A:)[\s:*]*(?=\S)", re.IGNORECASE | re.MULTILINE
)
# Where the answer ends and talk about it begins, unless the talk takes it back.
_TALK = re.compile(r"(?<=[^\s.])[.!?]\s+(?=[A-Z])|,?\s+(?:because|since|as|which)\s")
_TAKEN_BACK = re.compile(r"\b(?:no|not|wait|actually|rather|instead|or)\b", re.IGNORECASE)
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
# A number that stands by itself: not the 4 of 3/4, x^4, 3:04 or 10-4.
_NUMBER = re.compile(rf"(?<![\w.^/:{{\\√−-])[-−]?(?:{_DIGITS})(?![\w^/:\\π²!])")
# One number, with currency before it or unit words behind it, and nothing else.
_PLAIN = re.compile(
    rf"[$€£]?\s*([-−]?)\s*[$€£]?\s*({_DIGITS})\s*(?:%|[^\W\d_]{{2,}}(?:\s[^\W\d_]+)*)?[.,!?]?"
)
_NOT_A_UNIT = re.compile(
    r"(?<!\\)\b(?:hundreds?|thousands?|millions?|billions?|trillions?|dozens?|halves|half|pi|or|and|more|"
    r"less|plus|minus|times|divided|over|than|to|not|no|never|is|was|wrong|but|maybe)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_WORDS = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]+)*")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TAGS = re.compile(r"</?(?:answer|think|reasoning)>")
# A number that nothing is left to do on: a literal, a fraction, a power, a root.
_BRACED = rf"\{{\s*-?(?:{_DIGITS})\s*\}}"
_FINISHED = re.compile(
    rf"""\(?\s*[-+]*\s*\$?\s*(?:
        (?:{_DIGITS})(?:\s*/\s*(?:{_DIGITS}))?
      | (?:{_DIGITS})?\s*\\[dt]?frac\s*(?:{_BRACED}|\d)\s*(?:{_BRACED}|\d)
      | (?:{_DIGITS})\s*\^\s*(?:{_BRACED}|\d)
      | (?:{_DIGITS})?\s*\\sqrt\s*(?:\[\d\])?\s*(?:{_BRACED}|\d)
      | (?:{_DIGITS})\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*(?:{_BRACED}|\d)
    )\s*\)?\s*(?:\\?%|\^\s*\{{?\\circ\}}?)?
    (?:\s*\\(?:text|mathrm|mbox)\s*\{{[^{{}}]*\}}(?:\s*\^\s*\{{?\d\}}?)?|\s+[^\W\d_]+)?""",
    re.VERBOSE,
)
_UNSOLVED = re.compile(r"[a-zA-Z]\s*[-+]\s*\w|\d\s*[-+]\s*[a-zA-Z]")
# Forms that sympy may take minutes over; a gold answer of that form is still compared.
_COSTLY = re.compile(
    r"\\(?:sum|prod|int|lim|binom)|\^\s*\{?\s*[0-9.]{3,}|\^[^,]*\^|[0-9]{3,}\s*!|[)}\]]\s*!"
)


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
    """Take a completion apart at its think tags, or where it has none, at <reasoning> tags.

    Args:
        text: the completion, special tokens already removed.
        prefilled: the prompt already ended in ``<think>``.
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
    if not boxes:
        return None
    begin = boxes[-1].end()
    depth = 1
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin:i]
    return None


def count_boxes(text: str) -> int:
    r"""How many ``\boxed{`` a text opens."""
    return len(_BOX.findall(text))


def extract(text: str) -> str | None:
    r"""The answer stated in the text after the thought, or None.

    Looked for in this order: the last ``\boxed{}``; the last "answer is ...",
    "Answer: ...", "#### 5" or line starting in "A:"; the last ``$...$``; the last number
    that stands by itself; a text of one word.
    """
    text = _TAGS.sub(" ", text)
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed.strip()
    marks = list(_MARK.finditer(text))
    if marks:
        return _stated(text[marks[-1].end() :].split("\n")[0])
    formulas = re.findall(r"\$([^$\n]+)\$", text)
    if formulas:
        return formulas[-1].strip()
    numbers = list(_NUMBER.finditer(text))
    if numbers:
        negated = re.search(r"(?:\bnot|n't|cannot be)\s*$", text[: numbers[-1].start()])
        return None if negated else numbers[-1][0]
    words = _WORD.findall(text)
    return words[0] if len(words) == 1 else None


def _stated(line: str) -> str:
    """The answer at the beginning of a line, without what is said about it."""
    first, *talk = _TALK.split(line, maxsplit=1)
    if talk and _TAKEN_BACK.search(talk[0]):
        first = line
    return first.strip(" *_`").rstrip(".").strip(" *_`")


def as_number(text: str) -> float | int | None:
    """Read one plain number: sign, thousands separators, currency, unit or percent.

    ``$1,200`` is 1200 and ``18 apples`` is 18, but ``17 or 18``, ``5 million``, ``1,2``
    and ``at least 5`` are None. A percent sign is dropped, not divided by: a question
    that asks "what percent" has gold answers without the sign.
    """
    found = _PLAIN.fullmatch(text.strip())
    if not found or _NOT_A_UNIT.search(text):
        return None
    digits = found[2].replace(",", "")
    if len(digits) > MAX_DIGITS:
        return None
    value = float(digits) if "." in digits else int(digits)  # whole numbers stay exact
    return -value if found[1] else value


def equal(answer: str, gold: str) -> bool | None:
    """Whether two answers mean the same; None when the gold one cannot be read.

    Plain numbers and words are compared directly (microseconds), anything else goes
    to math-verify, gold first because its comparison is not symmetric. An expression
    that still has to be worked out ("34 + 3" for 37) is no answer.
    """
    answer, gold = _tidy(answer), _tidy(gold)
    if not _fold(gold):
        return None
    if _fold(answer) == _fold(gold):
        return True
    if re.match(r"(?:n't|not)\b", answer, re.IGNORECASE):
        return False
    gold_number = as_number(gold)
    if gold_number is not None:
        verdict = _equal_number(answer, gold_number)
        if verdict is not None:
            return verdict
        answer = answer.split("=")[-1]
    if _WORD.fullmatch(gold):
        word = _bare_word(answer)  # x and X are two variables, but ben is Ben
        return word == gold or (len(gold) > 1 and word.casefold() == gold.casefold())
    if _COSTLY.search(answer) and not _COSTLY.search(gold):
        return False
    if plainly_different(answer, gold):
        return False
    return _equal_by_math_verify(answer, gold)


def _equal_number(answer: str, gold: float | int) -> bool | None:
    """Compare with a gold number; None when math-verify has to read the last side.

    ``2 + 2 = 4`` and ``x = 4`` state a finished number last, ``34 + 3`` and ``x + 1 = 4``
    leave work to the checker, which would pay for copying the question.
    """
    *before, last = (side.strip() for side in answer.split("="))
    said = [number for side in before if (number := as_number(side)) is not None]
    if any(map(_UNSOLVED.search, before)) or not all(_close(n, gold) for n in said):
        return False
    number = as_number(last)
    if number is not None:
        return _close(number, gold)
    for mark in (r"\left", r"\right", "\\ ", "~"):
        last = last.replace(mark, "")
    finished = _FINISHED.fullmatch(last.replace(r"\$", "$").strip())
    return None if finished and not _NOT_A_UNIT.search(last) else False


def _close(value: float | int, gold: float | int) -> bool:
    """Whole numbers exactly, others to a millionth of their size."""
    if isinstance(gold, int) or gold.is_integer():
        return value == gold
    return abs(value - gold) <= 1e-6 * abs(gold)


def _tidy(text: str) -> str:
    r"""Remove what only decorates: bold marks, math brackets, thin spaces."""
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
    """Grade a whole completion: True, False, or None for an unreadable gold answer."""
    gold = "" if gold is None else str(gold)
    stated = extract(parse(text, prefilled).answer)
    if stated is None:
        return None if not gold.strip() else False
    return equal(stated, gold)


def gsm8k_gold(solution: str) -> str | None:
    """The number after ``####`` in a GSM8K solution, without separators, or None."""
    found = re.search(r"####\s*\$?(-?[0-9,]*\.?[0-9]+)", solution)
    return found[1].replace(",", "") if found else None


def _fold(text: str) -> str:
    """Text for a direct comparison; case counts in formulas, not in words."""
    text = re.sub(r"\s+", " ", text).rstrip(" .$").lstrip(" $")
    return text.casefold() if _WORDS.fullmatch(text) else text


@lru_cache(maxsize=4096)
def _equal_by_math_verify(answer: str, gold: str) -> bool | None:
    """Compare with math-verify; hostile input ends as "not equal", never as an error."""
    from math_verify import verify

    if len(answer) > 500 or not _one_formula(answer):
        return False
    # math-verify's own time limit is a signal, which only the main thread may set; there
    # it also cancels an alarm that the caller has set, so that one is set again.
    main = threading.current_thread() is threading.main_thread()
    alarm = signal.alarm(0) if main and hasattr(signal, "alarm") else 0
    limit = 2 if main else None
    try:
        wanted = _parsed(gold, limit)
        if not wanted:
            return None
        stated = _parsed(answer, limit)
        return bool(stated) and bool(verify(wanted, stated, timeout_seconds=limit))
    except Exception:  # sympy raises many kinds of errors on nonsense
        return False
    finally:
        if alarm:
            signal.alarm(alarm)


def forget() -> None:
    """Empty the caches of formulas read and compared."""
    _parsed.cache_clear()
    _equal_by_math_verify.cache_clear()


@lru_cache(maxsize=4096)
def _parsed(formula: str, limit: int | None) -> list:
    """What math-verify reads; a gold answer meets many replies and is read once."""
    from math_verify import parse

    return parse(rf"$\boxed{{{formula}}}$", parsing_timeout=limit)


def _one_formula(text: str) -> bool:
    """Whether text can stand inside one box: braces balanced, no box or dollar of its own."""
    depth = 0
    for sign in re.sub(r"\\[{}]", "", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0 and r"\boxed" not in text and "$" not in text.replace(r"\$", "").strip("$")
