"""Checks on rows of a mixture."""

import pytest

from trlm_utils import chat
from trlm_utils.curation import filters
from trlm_utils.files import CourseError

LONG = (
    "On Monday Ana picked twelve apples in the old garden behind her house and gave five of them "
    "away to the children next door, who had asked her for some of the pears as well, but those "
    "were not yet ripe"
)


def row(question, reply="", **more):
    return {"messages": chat.to_messages(question, reply or "The answer is 4."), **more}


def reasons(checks, rows, tokenizer=None, questions=()):
    (name,) = checks
    return filters.build({"duplicates": False, **checks}, tokenizer, questions)[name](rows)


def compared(checks, rows):
    """Whether each row resembles one kept before it, when all others are kept."""
    (check,) = filters.build_comparing(checks).values()
    found = []
    for one in rows:
        key = check.key(one)
        found.append(check.known(key))
        if not found[-1]:
            check.keep(key)
    return found


def test_duplicates_are_told_by_content_not_by_origin():
    rows = [row("a", id="1"), row("b"), row("a", id="2"), row("b"), row("c")]
    assert compared({}, rows) == [False, False, True, True, False]


def test_near_duplicates_differ_in_a_word_others_do_not():
    other = "Paris is the capital of France and lies on the river Seine, as every child is taught"
    checks = {"duplicates": False, "near_duplicates": 0.7}
    assert compared(checks, [row(LONG), row(LONG + " now"), row(other)]) == [False, True, False]


def test_contamination_needs_n_words_in_a_row():
    questions = ["How many apples did Ana pick on Monday morning?", "What is 2 + 2?"]
    rows = [
        row("Tell me: how many apples did Ana pick, please?"),  # six of them
        row("How many apples did Bob pick on Monday morning?"),  # never six in a row
        row("So, what is 2 and 2? What is 2 2?"),  # the whole short question
    ]
    found = reasons({"contamination": 6}, rows, questions=questions)
    assert found == ["in the evaluation", None, "in the evaluation"]


def test_contract_is_that_of_the_reward():
    good = row("q", chat.think("a. b.", "The answer is 4."))
    bad = row("q", "The answer is 4.")
    prompt = {"prompt": chat.to_prompt("q"), "answer": "4"}
    found = reasons({"contract": "think_format"}, [good, bad, prompt])
    assert found == [None, "breaks think_format", None]


def test_too_many_tokens(tokenizer):
    found = reasons({"max_tokens": 30}, [row("a"), row("word " * 40)], tokenizer)
    assert found == [None, "over 30 tokens"]
    with pytest.raises(CourseError, match="needs a tokenizer"):
        filters.build({"max_tokens": 30}, None, ())


def test_language():
    german = "Am Montag pflückte Anna zwölf Äpfel im alten Garten hinter dem Haus und gab fünf weg"
    found = reasons({"language": ["en"]}, [row(LONG), row(german, german), row("?", "42")])
    assert found == [None, "language de", None]


def test_verified_answers():
    rows = [row("q", answer="4"), row("q", answer="5"), row("q"), {"question": "q"}]
    assert reasons({"verified": True}, rows) == [
        None,
        "wrong answer",
        "no gold answer to verify with",
        None,
    ]


@pytest.mark.parametrize("answer", ["12", "-3", "0.25"])
def test_plain_numbers(answer):
    assert reasons({"numeric": True}, [{"answer": answer}]) == [None]


@pytest.mark.parametrize("answer", ["1,200", "50%", "1/2", "x", "3 or 4", r"\frac12", "1e9", ""])
def test_ambiguous_answers(answer):
    assert reasons({"numeric": True}, [{"answer": answer}]) == ["answer is no plain number"]


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ({"dedupe": True}, "unknown check 'dedupe'"),
        ({"max_tokens": "many"}, "wrong type"),
        ({"max_tokens": True}, "wrong type"),
        ({"max_tokens": 0}, "above 0"),
        ({"near_duplicates": 2}, "similarity"),
        ({"contract": "poem"}, "one of think_format"),
    ],
)
def test_bad_checks_are_refused(checks, said):
    with pytest.raises(CourseError, match=said):
        filters.validate(checks)


def test_an_unknown_language_is_refused():
    with pytest.raises(CourseError, match="unknown code 'english'"):
        filters.build({"language": ["english"]}, None, ())
