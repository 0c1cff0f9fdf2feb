"""Where a word problem goes wrong: in the choice of the operations, or in the arithmetic.

A reply works a word problem as equations, ``43 - 16 = 27. 27 * 2 = 54.`` Calculated again
exactly, they give the answer that the reply's *operations* lead to. If that is the gold answer
and the reply's is not, only the arithmetic failed.

>>> failure("<think> 43 - 16 = 37. 37 * 2 = 74.</think> The answer is 74.", "54")
'arithmetic'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from trlm_utils import answers
from trlm_utils.curation import equation

KINDS = ("right", "arithmetic", "operations", "no equation")
_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
_EQUATION = re.compile(rf"({_NUMBER})\s*([-+*/×÷])\s*({_NUMBER})\s*=\s*\$?\s*({_NUMBER})")
_SIGNS = {"×": "*", "÷": "/"}


def failure(reply: str, gold: str) -> str:
    """One of `KINDS`: right, or what was wrong first.

    ``operations`` also stands for operations on the wrong numbers.
    """
    if answers.grade(reply, gold):
        return "right"
    reached = exact_result(reply)
    if reached is None:
        return "no equation"
    return "arithmetic" if equation.gives(reached, gold) else "operations"


def exact_result(reply: str) -> Fraction | None:
    """What the equations of a reply give when each is calculated exactly; None without any.

    A later equation that takes up a result as it was stated gets the exact one instead.
    """
    exact: dict[Fraction, Fraction] = {}
    last = None
    for left, sign, right, stated in _EQUATION.findall(reply):
        values = [_value(text) for text in (left, right)]
        a, b = (exact.get(value, value) for value in values)
        operator = _SIGNS.get(sign, sign)
        if operator == "/" and b == 0:
            continue
        last = {"+": a + b, "-": a - b, "*": a * b}.get(operator)
        last = a / b if last is None else last
        exact[_value(stated)] = last
    return last


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def shares(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Share of replies of each of `KINDS`.

    Args:
        records: records of `held_out.evaluate`, with ``texts`` and ``gold``.
    """
    found = Counter(failure(text, record["gold"]) for record in records for text in record["texts"])
    return {kind: found[kind] / max(1, found.total()) for kind in KINDS}
