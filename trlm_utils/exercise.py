"""Check answers to the notebooks' exercises: a function against cases worked out by hand.

    cases = [
        (([-1.0, -3.0], [1, 1]), 2.0, "both tokens count"),
        (([-1.0, -3.0], [0, 1]), 3.0, "divide by the tokens that count, not by all"),
    ]
    exercise.check(masked_loss, cases)           # prints one sentence, never raises
    exercise.confirm(solution_masked_loss, cases)  # raises if the course's solution is wrong

`check` is for readers: an empty or wrong answer does not stop a notebook, so that it runs
without a reader too. `confirm` is for the course's own solutions: a wrong one fails the run.
"""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Case = tuple[tuple[Any, ...], Any, str]  # arguments, expected result, what the case is about
TOLERANCE = 1e-4  # relative, and absolute below 1
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = 12


def check(function: Callable[..., Any], cases: Sequence[Case]) -> None:
    """Print whether a reader's function gives the expected result in every case.

    Args:
        function: the answer; one that returns None or ``...`` in the first case counts as
            not written yet.
        cases: (arguments, expected result, what the case is about). Numbers may differ by
            `TOLERANCE`; a tensor or an array counts as the list of its numbers.
    """
    print(judge(function, cases)[1])


def confirm(function: Callable[..., Any], cases: Sequence[Case]) -> None:
    """The same check for the course's own solution.

    Raises:
        AssertionError: when a case fails; the message is what `check` would print.
    """
    right, sentence = judge(function, cases)
    if not right:
        raise AssertionError(sentence)
    print(sentence)


def judge(function: Callable[..., Any], cases: Sequence[Case]) -> tuple[bool, str]:
    """Whether a function is right in all cases, and a sentence that says so.

    Of several failed cases the first is described.
    """
    name, failed = shown(function), []
    for number, (arguments, expected, about) in enumerate(cases):
        call = f"{name}({', '.join(map(shown, arguments))})"
        try:
            found = function(*copy.deepcopy(arguments))
        except Exception as error:  # a reader's code may raise anything
            found, got = None, f"raises {type(error).__name__}: {error}"
        else:
            got = f"gives {shown(plain(found))}"
            if number == 0 and (found is None or found is ...):
                return False, f"not yet: {name} returns nothing. Write its body, run both cells."
        if not same(found, expected):
            failed.append(f"{call} {got}, expected {shown(expected)}: {about}")
    if failed:
        passed = len(cases) - len(failed)
        return False, f"wrong ({passed} of {len(cases)} cases right): {failed[0]}"
    return True, f"right: {name}, {len(cases)} cases"


def shown(value: Any) -> str:
    """A value in a sentence: shortened where it is long; a function by its name."""
    return value.__name__ if hasattr(value, "__name__") else _SHORT.repr(value)


def plain(value: Any) -> Any:
    """A tensor, an array or a NumPy number as lists and numbers of Python; others unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def same(found: Any, expected: Any) -> bool:
    """Whether a result is the expected one.

    Numbers may differ by `TOLERANCE`; lists and tuples are compared element by element, as are
    the values of dictionaries.
    """
    found, expected = plain(found), plain(expected)
    if isinstance(expected, (list, tuple)):
        long_enough = isinstance(found, (list, tuple)) and len(found) == len(expected)
        return long_enough and all(map(same, found, expected))
    if isinstance(expected, Mapping):
        keys = isinstance(found, Mapping) and found.keys() == expected.keys()
        return keys and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(found) is type(expected) and found == expected
