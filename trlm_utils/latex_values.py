r"""Numeric values of simple LaTeX formulas, to detect quickly that two formulas differ.

math-verify decides whether two formulas are equal, and takes milliseconds. Most wrong
answers differ from the gold answer by far more than a rounding error. For those it is
enough to compare floats, in microseconds. This module never decides that two formulas
are equal.

    >>> value(r"\frac{3}{4} + \sqrt{2}")
    2.164213562373095
    >>> value("x + 1") is None
    True
    >>> plainly_different(r"\frac{3}{4}", "0.5"), plainly_different("0.75", r"\frac{3}{4}")
    (True, False)
"""

from __future__ import annotations

import ast
import math
import operator
import re

FAR = 1e-3  # relative difference; far more than any rounding error
LONGEST = 120  # characters; longer formulas are left to math-verify
MAX_POWER = 64

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_REPLACED = (
    (r"\\[dt]frac", r"\\frac"),
    (r"\\(?:left|right|!|,|;)", ""),
    (r"\\(?:cdot|times)", "*"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
    (r"\^\s*(\d)", r"^{\1}"),
)
_INNERMOST = (
    (r"\\frac\s*\{([^{}\\]*)\}\s*\{([^{}\\]*)\}", r"((\1)/(\2))"),
    (r"\\sqrt\s*\{([^{}\\]*)\}", r"((\1)**0.5)"),
    (r"\^\s*\{([^{}\\]*)\}", r"**(\1)"),
)


def value(formula: str) -> float | None:
    """The value of a closed formula of numbers, fractions, roots, powers and pi, or None.

    None for mixed numbers such as ``1\\frac{1}{2}``: they may mean a sum or a product.
    """
    if len(formula) > LONGEST or re.search(r"\d\s*\\[dt]?frac", formula):
        return None
    text = formula.replace(r"\pi", "(3.141592653589793)")
    for pattern, new in _REPLACED:
        text = re.sub(pattern, new, text)
    for _ in range(8):  # from the inside out
        before = text
        for pattern, new in _INNERMOST:
            text = re.sub(pattern, new, text)
        if text == before:
            break
    text = re.sub(r"(?<=[\d)])\s*(?=\()", "*", text)  # 2(3) and (2)(3)
    if not re.fullmatch(r"[\d.+\-*/() ]+", text):
        return None
    try:
        found = _evaluate(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, float) and math.isfinite(found) else None


def _evaluate(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _evaluate(node.operand)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > MAX_POWER or left < 0 > right):
            raise ValueError
        return _OPERATORS[type(node.op)](left, right)
    raise ValueError


def parts(formula: str) -> list[float] | None:
    """The values of a tuple, interval, set or list of two or more numbers, or None."""
    text = re.sub(r"\\(?:left|right)", "", formula).strip()
    text = re.sub(r"^(?:\\\{|[(\[])|(?:\\\}|[)\]])$", "", text)
    pieces = text.split(",")
    if len(pieces) < 2 or any(re.fullmatch(r"\s*\d{3}\s*", piece) for piece in pieces[1:]):
        return None  # one number, or perhaps a thousands separator
    found = [value(piece) for piece in pieces]
    return None if None in found else found  # type: ignore[return-value]


def has_variable(formula: str) -> bool:
    """Whether a formula has a one-letter variable, and no words or relations."""
    if re.search(r"[=<>]|\\(?:text|math|oper|begin|le|ge|ne|in|sim|approx)", formula):
        return False
    rest = re.sub(r"\\[a-zA-Z]+", " ", formula)
    return bool(re.search(r"(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])", rest)) and not re.search(
        r"[a-zA-Z]{2}", rest
    )


# Never equal to one number: a union, infinity, plus-minus, a matrix, words.
_NO_NUMBER = re.compile(
    r"\\(?:cup|infty|pm|begin)(?![a-zA-Z])|^\\(?:text|mbox|mathrm)\{[^{}\d]*\}$"
)
_UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|mathrm)\s*\{[a-zA-Z ./]*\}(?:\^\{?[23]\}?)?$")


def plainly_different(one: str, other: str) -> bool:
    """True when two formulas cannot be equal; False means undecided."""
    one, other = _UNIT.sub("", one), _UNIT.sub("", other)
    values = value(one), value(other)
    if None not in values:
        return _far(*values)  # type: ignore[arg-type]
    lists = parts(one), parts(other)
    if None not in lists:
        if len(lists[0]) != len(lists[1]):  # type: ignore[arg-type]
            return True
        pairs = zip(sorted(lists[0]), sorted(lists[1]), strict=True)  # type: ignore[arg-type]
        return any(_far(a, b) for a, b in pairs)
    if any(v is not None for v in values):
        formula = other if values[0] is not None else one
        other_kind = _NO_NUMBER.search(formula) or has_variable(formula)
        return bool(other_kind) or parts(formula) is not None
    return any(x is not None for x in lists) and has_variable(one if lists[1] else other)


def _far(a: float, b: float) -> bool:
    return abs(a - b) > FAR * max(1.0, abs(a), abs(b))
