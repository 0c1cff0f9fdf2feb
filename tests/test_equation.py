"""Equations worked step by step: the steps by hand, and what is refused."""

from fractions import Fraction

import pytest

from trlm_utils.curation import equation, schema
from trlm_utils.files import read_rows


@pytest.mark.parametrize(
    ("text", "steps", "value"),
    [
        ("18 - 10", "18 - 10 = 8.", 8),
        ("(17 + 15) + 2", "17 + 15 = 32. 32 + 2 = 34.", 34),
        ("25000 - (1500 * 8)", "1500 * 8 = 12000. 25000 - 12000 = 13000.", 13000),
        ("7 - 2 - 1", "7 - 2 = 5. 5 - 1 = 4.", 4),
        ("2 + 3 * 4", "3 * 4 = 12. 2 + 12 = 14.", 14),
        ("0.1 + 0.2", "0.1 + 0.2 = 0.3.", Fraction(3, 10)),  # exact, not in binary
        ("5 / 6", "5 / 6 = 0.8333.", Fraction(5, 6)),
        ("(5 / 6) * 12", "5 / 6 = 0.8333. 0.8333 * 12 = 10.", 10),
        ("3 - 5", "3 - 5 = -2.", -2),
    ],
)
def test_the_steps_of_an_equation(text, steps, value):
    assert equation.worked(text) == (steps, value)


@pytest.mark.parametrize(
    "text", ["", "7", "x + 1", "2 ** 9", "1 / 0", "1 +", "True + 1", "f(1) + 2", "(" * 400 + "1"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="equation|operation"):
        equation.worked(text)


def test_a_rounded_answer_counts_as_given():
    assert equation.gives(Fraction(5, 6), "0.83") and equation.gives(Fraction(1200), "1,200")
    assert not equation.gives(Fraction(5, 6), "0.8")
    assert not equation.gives(Fraction(5), "-5") and not equation.gives(Fraction(5), "five")


SOURCE = {"columns": {"thought": "equation"}, "thought_form": "equation"}
ROW = {"question": "Q", "equation": "(17 + 15) + 2", "answer": "34"}


def test_an_equation_becomes_the_thought_of_a_reply():
    reply = schema.bring(ROW, "messages", SOURCE)["messages"][-1]["content"]
    assert reply == "<think> 17 + 15 = 32. 32 + 2 = 34.</think> The answer is 34."


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"answer": "35"}, "another answer"), ({"equation": "see above"}, "no equation")],
)
def test_a_row_whose_equation_does_not_hold_is_left_out(change, reason):
    with pytest.raises(schema.Unfit, match=reason):
        schema.bring(ROW | change, "messages", SOURCE)


@pytest.mark.real_data
def test_real_word_problems_are_worked(real_data):
    rows = read_rows(real_data / "word_problems" / "train.jsonl")
    refused = 0
    for row in rows:
        try:
            schema.bring(row, "messages", SOURCE)
        except schema.Unfit:
            refused += 1
    assert len(rows) > 3000 and refused / len(rows) < 0.01
