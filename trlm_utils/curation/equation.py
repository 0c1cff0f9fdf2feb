"""An equation as a worked solution: its operations one by one, in the order of calculation.

>>> worked("(17 + 15) / 4")
('17 + 15 = 32. 32 / 4 = 8.', Fraction(8, 1))
"""

from __future__ import annotations

import ast
import operator
from fractions import Fraction

from trlm_utils import quantity

SIGNS = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}
DIGITS = 4  # decimals of a number that has no end
CLOSE = Fraction(1, 100)  # an answer may be rounded by this share of itself


def worked(equation: str) -> tuple[str, Fraction]:
    """The steps of an equation as sentences, and its value.

    Args:
        equation: of numbers, ``+ - * /`` and brackets.

    Raises:
        ValueError: when it has no operation, anything else in it, or divides by zero.
    """
    steps: list[str] = []
    try:
        value = _value(ast.parse(equation.strip(), mode="eval").body, steps)
    except (SyntaxError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(f"no equation: {equation[:40]!r}") from error
    if not steps:
        raise ValueError(f"no operation in {equation[:40]!r}")
    return " ".join(steps), value


def gives(value: Fraction, answer: str) -> bool:
    """Whether an equation's value is the answer, which may be rounded."""
    stated = quantity.as_number(answer)
    return stated is not None and abs(value - Fraction(stated)) <= CLOSE * abs(value)


def _value(node: ast.expr, steps: list[str]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        left, right = _value(node.left, steps), _value(node.right, steps)
        sign, compute = SIGNS[type(node.op)]
        value = compute(left, right)
        steps.append(f"{_told(left)} {sign} {_told(right)} = {_told(value)}.")
        return value
    raise ValueError(f"{ast.unparse(node)[:40]!r} is no number and no operation")


def _told(value: Fraction) -> str:
    return f"{float(value):.{DIGITS}f}".rstrip("0").rstrip(".")
