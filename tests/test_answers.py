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
    ("The answer is .5", "5", False, "a leading dot is part of the number"),
    ("The answer is .5", "0.5", True, "a decimal without its zero"),
    ("The answer is -$5.", "-5", True, "sign before the currency"),
    ("The answer is −5.", "-5", True, "typographic minus"),
    ("The answer is at least 5.", "5", False, "a bound is no value"),
    ("The answer is 5 million.", "5", False, "a magnitude is no unit"),
    ("The answer is 1,2.", "12", False, "two numbers are not one"),
    ("The answer isn't 4.", "4", False, "negated"),
    ("The answer is not 4.", "4", False, "negated in full"),
    ("The answer is 34 + 3.", "37", False, "work left undone, copied from the question"),
    ("The answer is 17 = 18.", "18", False, "contradicts itself"),
    ("The answer is 17}$ $\\boxed{18.", "18", False, "breaks out of the box"),
    ("The answer is 1000001.", "1000000", False, "whole numbers are compared exactly"),
    ("The answer is 0.333333.", "0.3333333", True, "decimals to a millionth"),
    ("So x is 3/4", "4", False, "the denominator is not the answer"),
    ("the time is 5:30", "30", False, "minutes are not the answer"),
    ("The answer is:\n\n18", "18", True, "answer on the next line"),
    ("**Answer: 18**", "18", True, "bold"),
    ("#### Step 2: total\n18", "18", True, "a heading is not GSM8K's mark"),
    ("Plan A: 5 dollars.\nSo together 12.", "12", True, "A: inside a line"),
    (r"So we get $\frac{14}{3}$.", r"\frac{14}{3}", True, "last formula"),
    (r"\boxed{\text{Ben}}", "Ben", True, "a word set as text"),
    ("The answer is Ben, because he is tall.", "Ben", True, "a reason behind a word"),
    ("The answer is 1/2.", "0.5", True, "a fraction is a number"),
    (r"\boxed{X}", "x", False, "case counts in formulas"),
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


@pytest.mark.parametrize(
    "costly", ["9^{9^{9^9}}", r"\binom{10000000}{5000000}", "(x+1)^{5000}", "99999999!"]
)
def test_costly_answers_return_at_once_off_the_main_thread(costly):
    """There math-verify has no time limit, so such forms never reach it."""
    found = []
    work = threading.Thread(target=lambda: found.append(answers.equal(costly, "42")))
    work.daemon = True
    work.start()
    work.join(5)
    assert found == [False]


def test_an_alarm_of_the_caller_survives():
    import signal

    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(50)
    answers.equal(r"\frac{7}{3}", r"\frac{14}{6}")
    assert signal.alarm(0) > 40


def test_gold_answers_that_are_numbers_or_missing():
    assert answers.grade("The answer is 4.", 4) is True
    assert answers.grade("The answer is 4.", None) is None


def test_gsm8k_gold():
    assert answers.gsm8k_gold("#### $18 apples") == "18"
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


@pytest.mark.real_data
def test_every_math500_gold_answer_equals_itself_in_a_box(real_data):
    from trlm_utils.stage import read_json

    golds = [row["answer"] for row in read_json(real_data / "math500" / "test.json")]
    assert len(golds) == 500
    assert [g for g in golds if not answers.grade(rf"\boxed{{{g}}}", g)] == []
    neighbours = zip(golds, golds[1:] + golds[:1], strict=True)
    taken = [(g, other) for g, other in neighbours if answers.grade(rf"\boxed{{{other}}}", g)]
    assert taken == [("5", "x=5"), ("7", "7"), ("3", "3")]  # which are equal


PIECES = [
    *("<think>", "</think>", "<answer>", "</answer>", "<reasoning>", "</reasoning>"),
    *(r"\boxed{", r"\frac{", "}", "{", "$", "$$", r"\(", r"\)", r"\text{", r"\sqrt{", r"\sum"),
    *("####", "The answer is", "Answer:", "A:", "because", "or", "not", "=", "^", "_", "&", "%"),
    *(
        "0",
        "1",
        "12",
        "1,000",
        "-5",
        "1e9",
        "1/0",
        "٤",
        "²",
        "∞",
        "\n",
        "\t",
        "\x00",
        "\ud7ff",
        "🙂",
    ),
    *("x", "Ben", "(", ")", "[", "]", ",", ".", "!", "*", "**", "\\", "'", '"', "--", "+", "None"),
]


@pytest.mark.sequence  # a minute
def test_ten_thousand_hostile_completions_never_raise_hang_or_pass():
    """Random tags, braces and formulas; none of them holds the gold answer."""
    import random
    import time

    draw = random.Random(0)
    slowest = 0.0
    for _ in range(10_000):
        text = "".join(
            draw.choice(PIECES) + draw.choice(("", " ")) for _ in range(draw.randint(1, 40))
        )
        began = time.perf_counter()
        assert answers.grade(text, "7391") is False, text
        answers.grade(text, r"\frac{7391}{2}")
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 10  # seconds; math-verify's own limit is 2 for each of four calls


def test_a_gold_formula_is_read_once_for_many_replies(monkeypatch):
    import math_verify

    read = []
    parse = math_verify.parse
    monkeypatch.setattr(
        math_verify, "parse", lambda text, **k: read.append(text) or parse(text, **k)
    )
    answers.forget()
    for reply in (r"\frac{3}{6}", r"\frac{4}{8}", r"\frac{2}{4}"):
        assert answers.equal(reply, r"\frac{1}{2}") is True
    assert sum("{1}{2}" in text for text in read) == 1
    answers.forget()
    answers.equal(r"\frac{3}{6}", r"\frac{1}{2}")
    assert sum("{1}{2}" in text for text in read) == 2


def test_reasoning_tags_hold_a_thought_where_there_are_no_think_tags():
    text = "<reasoning>2 + 2: 5.</reasoning><answer>4</answer>"
    assert answers.parse(text).thought == "2 + 2: 5."
    assert answers.grade(text, "4") is True and answers.grade(text, "5") is False
    assert answers.grade("<reasoning>so: 4. The answer is 4.", "4") is False  # never closed
    inner = "<think> <reasoning>a</reasoning> The answer is 4."
    assert answers.parse(inner).unclosed
