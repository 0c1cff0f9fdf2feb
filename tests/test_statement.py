"""What texts without a closing form state, and which dollar signs are LaTeX."""

import time

import pytest

from trlm_utils import statement


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She pays $5 + $3 = $8.", []),
        ("$5, $10 and 6$", []),
        ("$x=5$ and $y = 6$", ["x=5", "y = 6"]),
        ("$ 18 $ apples", ["18"]),
        (r"It costs $5, so $5 \times 3 = 15$ dollars", [r"5 \times 3 = 15"]),
        (r"\$5 and \$6", []),
        ("$5$6", []),  # a price behind
        (r"$5 \text{ or } 6$", [r"5 \text{ or } 6"]),
    ],
)
def test_formulas(text, expected):
    assert [content for _, _, content in statement.formulas(text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 + 4 = 7", "3 + 4 = 7"),  # the checker reads the last side
        ("So 3 + 4 = 7 apples in 2 bags.", "7"),
        ("17 or 18", "17, 18"),
        ("Add 3 + 4 apples", "3 + 4"),
        ("It is not 5.", None),
        ("Ben", "Ben"),
        ("Ben or Dan", None),
        ("", None),
    ],
)
def test_stated(text, expected):
    assert statement.stated(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5, not 6", "5"),
        ("5 (2 + 3)", "5"),
        ("5 (or 6)", "5 (or 6)"),
        ("(3, 4)", "(3, 4)"),
        ("is negative 5", "is -5"),
    ],
)
def test_without_asides(text, expected):
    assert statement.without_asides(text) == expected


@pytest.mark.parametrize("piece", ["1/", "5 or ", "1 (", "$5 ", "5 which is ", r"\(", "aa ", "* "])
def test_repeated_pieces_take_no_time_that_grows_without_bound(piece):
    began = time.perf_counter()
    statement.stated(piece * (100_000 // len(piece)) + "x")
    assert time.perf_counter() - began < 5  # seconds; a tenth of that on a slow machine
