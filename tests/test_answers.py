"""The one checker: how it takes completions apart, and that it never hangs or raises.

The table of graded cases stands in test_answer_cases.py.
"""

import re
import threading

import pytest

from trlm_utils import answers


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
    from trlm_utils.files import read_rows

    golds = [
        answers.gsm8k_gold(row["answer"]) for row in read_rows(real_data / "gsm8k" / "test.jsonl")
    ]
    assert len(golds) == 1319
    assert all(answers.grade(f"#### {gold}", gold) for gold in golds)
    for gold, other in zip(golds, golds[1:], strict=False):
        assert answers.grade(f"#### {other}", gold) is (float(other) == float(gold))


def labelled_solutions(real_data):
    """(solution, gold, is_correct) of four models, without calculator marks."""
    from trlm_utils.files import read_rows

    folder = real_data / "gsm8k"
    golds = [answers.gsm8k_gold(row["answer"]) for row in read_rows(folder / "test.jsonl")]
    for row, gold in zip(read_rows(folder / "model_solutions.jsonl"), golds, strict=True):
        for said in row.values():
            if isinstance(said, dict):
                solution = re.sub(r"<<[^<>]*>>", "", said["solution"])
                yield solution, gold, said["is_correct"]


@pytest.mark.real_data
def test_every_label_of_the_model_solutions(real_data):
    found = list(labelled_solutions(real_data))
    assert len(found) == 5276
    assert [row for row in found if answers.grade(row[0], row[1]) is not row[2]] == []


@pytest.mark.real_data
def test_labels_hold_without_the_line_that_marks_the_answer(real_data):
    """The work before "A: 26" states the answer too; a few end in another number."""
    cut = [
        (re.sub(r"^A:.*", "", solution, flags=re.MULTILINE), gold, label)
        for solution, gold, label in labelled_solutions(real_data)
        if re.search(r"^A:", solution, re.MULTILINE)
    ]
    assert len(cut) == 5265
    differ = [row for row in cut if answers.grade(row[0], row[1]) is not row[2]]
    assert len(differ) < 0.01 * len(cut)


@pytest.mark.real_data
def test_gsm8k_solutions_state_their_answer_without_its_mark(real_data):
    from trlm_utils.files import read_rows

    missed = total = 0
    for row in read_rows(real_data / "gsm8k" / "train.jsonl"):
        work = re.sub(r"<<[^<>]*>>", "", row["answer"]).split("####")[0]
        missed += not answers.grade(work, answers.gsm8k_gold(row["answer"]))
        total += 1
    assert total == 7473 and missed < 0.02 * total


@pytest.mark.real_data
def test_every_math500_gold_answer_equals_itself_in_a_box(real_data):
    from trlm_utils.files import read_json

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
