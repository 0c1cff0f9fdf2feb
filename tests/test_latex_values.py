"""Values of simple formulas, and what is plainly different (never what is equal)."""

import math

import pytest

from trlm_utils import answers, latex_values


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("5", 5.0),
        ("-5", -5.0),
        (r"\frac{3}{4}", 0.75),
        (r"\frac34", 0.75),
        (r"-\dfrac{1}{2}", -0.5),
        (r"3\sqrt{2}", 3 * math.sqrt(2)),
        (r"\frac{\sqrt{2}}{2}", math.sqrt(2) / 2),
        (r"2\pi", 2 * math.pi),
        (r"2^{10}", 1024.0),
        (r"2(3+4)", 14.0),
        (r"3 \cdot 4", 12.0),
        (r"(-2)^2", 4.0),
        ("x", None),
        ("1,2", None),
        (r"1\frac{1}{2}", None),  # a sum for some, a product for others
        ("9^9^9", None),
        (r"9^{99999}", None),
        (r"\frac{1}{0}", None),
        ("__import__('os')", None),
        ("(" * 200, None),
        ("", None),
    ],
)
def test_value(formula, expected):
    found = latex_values.value(formula)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (r"\frac{1}{2}", r"\frac{1}{3}", True),
        (r"\frac{1}{2}", "0.5", False),  # equal
        (r"\frac{1}{3}", "0.333", False),  # near: for math-verify to say
        ("(1,2)", "(1,3)", True),
        ("(2,1)", "(1,2)", False),  # order may or may not count
        ("(1,2)", "(1,2,3)", True),
        ("5", "x+1", True),
        ("5", "x=5", False),
        ("5", r"5\text{ cm}", False),
        ("7", r"5\text{ cm}^2", True),
        ("5", r"(-\infty, 5]", True),
        ("5", r"\text{east}", True),
        ("5", r"\text{5 apples}", False),  # digits among the words
        ("x+1", "x+2", False),  # no values: says nothing
        ("1234", "1,234", False),  # a thousands separator
    ],
)
def test_plainly_different(one, other, expected):
    assert latex_values.plainly_different(one, other) is expected
    assert latex_values.plainly_different(other, one) is expected


@pytest.mark.real_data
def test_math_verify_never_disagrees_on_pairs_of_math500_answers(real_data):
    """Each gold answer against its three neighbours."""
    from trlm_utils.files import read_json

    golds = [answers._tidy(row["answer"]) for row in read_json(real_data / "math500" / "test.json")]
    pairs = [(golds[i], golds[i - k]) for i in range(len(golds)) for k in (1, 2, 3)]
    different = [pair for pair in pairs if latex_values.plainly_different(*pair)]
    assert len(different) > 1000  # worth its while
    assert [pair for pair in different if answers._equal_by_math_verify(*pair)] == []
