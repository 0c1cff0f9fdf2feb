"""Numbers with currency, magnitude and unit, and what is left for a formula reader."""

import pytest

from trlm_utils import quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1,200.50", -1200.5),
        ("-$5", -5),
        ("US$45", 45),
        ("5€", 5),
        ("9.8 m/s^2", 9.8),
        ("5 kg·m", 5),
        ("3 times a week", 3),
        ("12 °C", 12),
        ("2 and a half million", 2_500_000),
        ("5k", 5000),
        ("5 K", None),  # kelvin, or a variable
        ("5 x", None),
        ("$5 m", None),
        ("5 squared", None),
        ("5 times three", None),
        ("5 feet 6 inches", None),
        ("5 dozen", None),
        ("1,2", None),
        ("9" * 301, None),
    ],
)
def test_as_number(text, expected):
    assert quantity.as_number(text) == expected


def test_a_letter_is_no_unit_in_a_gold_answer():
    assert quantity.as_number("5 m", letters=False) is None
    assert quantity.as_number("5 km/h", letters=False) == 5
    assert quantity.as_number("5k", letters=False) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3/4 of the cake", "3/4"),
        ("-1/2", "-1/2"),
        ("2 1/2 cups", "5/2"),
        ("2 and 1/2", "5/2"),
        ("1½", "3/2"),
        ("3/4 or so", "3/4 or so"),  # not read
        ("5 apples", "5 apples"),
    ],
)
def test_bare(text, expected):
    assert quantity.bare(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3/4", True),
        (r"2^{10}", True),
        (r"\sqrt{8}", True),
        ("34 + 3", False),
        ("3/4 million", False),
    ],
)
def test_is_finished(text, expected):
    assert quantity.is_finished(text) is expected
