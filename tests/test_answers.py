"""The one checker: a table of cases, each with its reason."""

import threading

import pytest

from trlm_utils import answers

GRADES = [
    ("The answer is 4.", "4", True, "stated answer, no thought"),
    ("<think> 2 + 2 = 4.</think> The answer is 4.", "4", True, "answer after the thought"),
    ("<think> The answer is 4.</think> The answer is 5.", "4", False, "thought not graded"),
    ("<think> 2 + 2 = 4. The answer is 4.", "4", False, "unclosed thought has no answer"),
    ("</think> The answer is 4.", "4", True, "opening tag prefilled in the prompt"),
    ("<think> a</think> 4 <think> b", "4", False, "a second thought is left open"),
    ("</think><think> b", "4", False, "tags in the wrong order"),
    ("<think> a</think>", "4", False, "no answer at all"),
    ("", "4", False, "empty"),
    (r"So \boxed{4}", "4", True, "boxed"),
    (r"\boxed{3} no, \boxed{4}", "4", True, "last box counts"),
    (r"\boxed{\frac{1}{2}}", "0.5", True, "braces inside a box"),
    ("#### 72", "72", True, "GSM8K form"),
    ("The answer is 1,200.", "1200", True, "thousands separator"),
    ("The answer is $1200.", "1200", True, "currency"),
    ("The answer is 18 apples.", "18", True, "unit"),
    ("The answer is 17 or 18.", "18", False, "two candidates are no answer"),
    ("The answer is 4.0.", "4", True, "trailing zero"),
    ("The answer is -4.", "4", False, "sign matters"),
    ("The answer is 41.", "4", False, "prefix of a number"),
    ("The answer is Ben.", "Ben", True, "a name"),
    ("The answer is ben.", "Ben", True, "case does not matter"),
    ("The answer is Ben or Dan.", "Ben", False, "two names"),
    ("Ana", "Ben", False, "another name"),
    ("12 then 15", "15", True, "last number without a stated answer"),
    ("The answer is 4. The answer is 5.", "4", False, "last statement counts"),
    ("The answer is no.", "yes", False, "wrong word"),
    (r"The answer is $\frac{3}{4}$.", "0.75", True, "LaTeX against a decimal"),
    (r"\boxed{(0, \frac{\pi}{2})}", r"(0, \frac{\pi}{2})", True, "tuple"),
    (r"\boxed{[1, 2)}", r"(1, 2)", False, "interval ends matter"),
    ("<answer>4</answer>", "4", True, "answer tags"),
]


@pytest.mark.parametrize(
    ("text", "gold", "expected"), [c[:3] for c in GRADES], ids=[c[3] for c in GRADES]
)
def test_grade(text, gold, expected):
    assert answers.grade(text, gold) is expected


def test_unreadable_gold_is_none():
    assert answers.grade("The answer is 4.", "") is None
    assert answers.equal("4", "  ") is None


@pytest.mark.parametrize(
    ("text", "unclosed", "well_formed"),
    [
        ("<think> a</think> b", False, True),
        ("<think></think> b", False, False),
        ("<think> a</think>", False, False),
        ("<think> a</think></think> b", False, False),
        ("<think> a", True, False),
        ("b", False, False),
        ("b <think> a</think> c", False, False),
    ],
)
def test_parse(text, unclosed, well_formed):
    parsed = answers.parse(text)
    assert (parsed.unclosed, parsed.well_formed) == (unclosed, well_formed)


def test_prefilled_opening_tag():
    assert answers.parse("a</think> b", prefilled=True).well_formed


@pytest.mark.parametrize(
    "hostile",
    [
        "9^9^9^9^9^9",
        r"\frac" * 200,
        "(" * 300,
        r"\boxed{" * 50,
        "1e999999999",
        "\\sqrt{" + "1" * 400 + "}",
        "\x00\ud7ff",
        "<think>" * 500 + "</think>" * 500,
        "-" * 1000 + "1",
        "1," * 400,
    ],
)
def test_hostile_text_is_wrong_and_never_raises(hostile):
    assert answers.grade(f"The answer is {hostile}", "42") is False


def test_works_outside_the_main_thread():
    found = []
    work = threading.Thread(
        target=lambda: found.append(answers.equal(r"\frac{2}{8}", r"\frac{1}{4}"))
    )
    work.start()
    work.join()
    assert found == [True]


def test_gsm8k_gold():
    assert answers.gsm8k_gold("work\n#### 1,234") == "1234"
    assert answers.gsm8k_gold("no mark") is None


@pytest.mark.real_data
def test_every_gsm8k_gold_answer_equals_itself_and_not_its_neighbour(real_data):
    from trlm_utils.stage import read_rows

    golds = [
        answers.gsm8k_gold(row["answer"]) for row in read_rows(real_data / "gsm8k" / "test.jsonl")
    ]
    assert len(golds) == 1319
    assert all(answers.grade(f"#### {gold}", gold) for gold in golds)
    for gold, other in zip(golds, golds[1:], strict=False):
        assert answers.grade(f"#### {other}", gold) is (float(other) == float(gold))
