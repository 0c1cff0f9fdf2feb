"""Dirt: each kind as it is described, its truth, and what the checks find of it."""

import random
from collections import Counter

import pytest

from trlm_utils import answers, chat, nanoworld
from trlm_utils.curation import dirt, filters
from trlm_utils.families import Step
from trlm_utils.nanoworld import Problem

STORY = Problem(
    "made/0",
    "story",
    "Ana has 12 cups. May brings 3. June takes 5. How many cups now?",
    "10",
    (
        Step("May brings 3", "+", "3", "12", "15"),
        Step("June takes 5", "-", "5", "15", "10"),
    ),
)
SUM = Problem("made/1", "expression", "Compute c = 7 + 2. What is c?", "9", ())
SUM = Problem(SUM.id, SUM.family, SUM.question, "9", (Step("c = 7 + 2", "+", "2", "7", "9"),))
REPLY = "<think> May brings 3: 12 + 3 = 15. June takes 5: 15 - 5 = 10.</think> The answer is 10."


@pytest.fixture(scope="module")
def rows():
    return dirt.mixture(400, seed=1)


def texts(row):
    return tuple(message["content"] for message in row["messages"])


def of_kind(rows, kind):
    found = [row for row in rows if row["kind"] == kind]
    assert found
    return found


def test_kinds_occur_in_their_shares(rows):
    wanted = {"duplicate": 40, "near_duplicate": 20, "leaked": 16, "cut": 32, "unformatted": 20}
    wanted |= {"wrong": 64, "foreign": 28, "clean": 180}
    assert Counter(row["kind"] for row in rows) == wanted


def test_the_same_seed_gives_the_same_rows_and_another_one_others(rows):
    assert dirt.mixture(400, seed=1) == rows
    assert dirt.mixture(400, seed=2) != rows


def test_clean_rows_ask_different_questions_and_are_right(rows):
    clean = of_kind(rows, "clean")
    assert len({texts(row)[0] for row in clean}) == len(clean)
    assert all(answers.grade(texts(row)[1], row["answer"]) for row in clean)
    assert not any(nanoworld.is_held_out(texts(row)[0]) for row in clean)


@pytest.mark.parametrize("kind", ["duplicate", "near_duplicate"])
def test_a_copy_follows_its_original(rows, kind):
    seen = []
    for row in rows:
        question, reply = texts(row)
        if row["kind"] == kind:
            if kind == "duplicate":
                assert (question, reply) in seen
            else:
                assert any(q in question and q != question and r == reply for q, r in seen)
        seen.append((question, reply))


def test_a_cut_reply_is_a_beginning_without_end():
    for draw in range(50):
        cut = dirt._cut(STORY, REPLY, random.Random(draw))
        assert REPLY.startswith(cut) and cut.startswith("<think> May")
        assert len(cut) < len(REPLY.partition("</think>")[0])


def test_three_ways_to_break_the_format():
    found = {dirt._unformatted(STORY, REPLY, random.Random(draw)) for draw in range(50)}
    work = "May brings 3: 12 + 3 = 15. June takes 5: 15 - 5 = 10."
    assert found == {
        f"{work} The answer is 10.",
        f"<think> {work} The answer is 10.",
        f"<think> {work}</think>",
    }


def test_wrong_replies_slip_or_guess(rows):
    for row in of_kind(rows, "wrong"):
        thought = answers.parse(texts(row)[1]).thought
        guessed = thought == nanoworld.EASY
        assert guessed or not answers.grade(texts(row)[1], row["answer"])


def test_german_and_french_by_hand():
    assert dirt.foreign(STORY, "de") == (
        "Ana hat 12 Tassen. Im Mai kommen 3 dazu. Im Juni gehen 5 weg. "
        "Wie viele Tassen sind es jetzt?",
        "<think> Im Mai kommen 3 dazu: 12 + 3 = 15. Im Juni gehen 5 weg: 15 - 5 = 10.</think> "
        "Die Antwort ist 10.",
    )
    assert dirt.foreign(SUM, "fr") == (
        "Calcule c = 7 + 2. Que vaut c ?",
        "<think> c = 7 + 2: 7 + 2 = 9.</think> La réponse est 9.",
    )


def test_leaks_are_held_out_questions_in_three_forms():
    assert dirt._leaked(STORY, 0) == (STORY.question, REPLY)
    assert dirt._leaked(STORY, 1) == (f"Solve: {STORY.question}", REPLY)
    assert dirt._leaked(STORY, 2) == (
        "Ana has 12 cups. May adds 3. June costs 5. How many cups are left?",
        REPLY.replace("brings", "adds").replace("takes", "costs"),
    )


def test_questions_that_are_asked_do_not_leak(rows):
    leaked = {problem.question for problem in dirt.leaked_problems(1)}
    asked = {problem.question for problem in dirt.held_out_problems(30, 1)}
    assert (len(leaked), len(asked)) == (dirt.LEAKS, 30) and not leaked & asked
    assert all(map(nanoworld.is_held_out, leaked | asked))
    assert {texts(row)[0] for row in rows} & leaked
    assert not {texts(row)[0] for row in rows} & asked


@pytest.mark.parametrize(
    ("shares", "message"),
    [({"mould": 0.1}, "unknown kind of dirt 'mould'"), ({"wrong": 1.0}, "leave no clean row")],
)
def test_impossible_shares_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        dirt.mixture(10, shares=shares)


def test_tally_by_hand():
    rows = [{"kind": kind} for kind in ("clean", "clean", "wrong", "wrong", "wrong", "cut")]
    assert dirt.tally(rows, [True, False, True, True, False, True], ["wrong"]) == {
        "dropped": 4,
        "of its kind": 2,
        "other dirt": 1,
        "clean": 1,
        "missed": 1,
        "precision": 3 / 4,
        "recall": 2 / 3,
    }
    nothing = dirt.tally(rows, [False] * 6, ["leaked"])
    assert nothing["precision"] is None and nothing["recall"] is None


FINDS = {
    "contract": ("think_format", ("cut", "unformatted"), 1.0),
    "language": (["en"], ("foreign",), 0.95),
    "duplicates": (True, ("duplicate",), 1.0),
    "verified": (True, ("wrong",), 0.9),
}


@pytest.mark.parametrize("name", FINDS)
def test_checks_find_the_dirt_they_are_for(rows, name):
    value, kinds, least = FINDS[name]
    checks = filters.build({name: value}, None, [])
    check = (checks | filters.build_comparing({name: value}))[name]
    found = dirt.tally(rows, dirt.reasons(rows, check), kinds)
    assert found["recall"] >= least and found["precision"] >= 0.9


def test_contamination_misses_other_words_alone_and_takes_signs_for_nothing(rows):
    asked = [problem.question for problem in dirt.leaked_problems(1)]
    (check,) = filters.build({"contamination": 13, "duplicates": False}, None, asked).values()
    for row, why in zip(rows, dirt.reasons(rows, check), strict=True):
        if row["kind"] == "leaked":
            stories = texts(row)[0].startswith(("Compute", "Solve"))
            assert bool(why) == (stories or "now?" in texts(row)[0])
    minus = SUM.question.replace("+", "-")
    (check,) = filters.build({"contamination": 13}, None, [minus]).values()
    row = {"messages": chat.to_messages(SUM.question, "9")}
    assert dirt.reasons([row], check) == ["in the evaluation"]


def test_near_duplicates_miss_short_rows_with_words_within(rows):
    check = filters.build_comparing({"near_duplicates": 0.8})["near_duplicates"]
    found = dirt.tally(rows, dirt.reasons(rows, check), ["near_duplicate"])
    assert 0 < found["recall"] < 0.9


def test_spending_tokens_goes_round_and_passes_the_number_once(tokenizer):
    row = {"id": "a", "messages": chat.to_messages("Hi", "The answer is 5.")}
    other = {"id": "b", "messages": chat.to_messages("Ho", "The answer is 5.")}
    assert len(tokenizer("The answer is 5.")["input_ids"]) == 5  # and the end token: 6
    assert len(dirt.spend([row, other], 6, tokenizer)) == 1
    spent = dirt.spend([row, other], 19, tokenizer)
    assert [r["id"] for r in spent].count("a") == 2 and len(spent) == 4
    assert dirt.spend([row, other], 0, tokenizer) == []
    with pytest.raises(ValueError, match="no rows"):
        dirt.spend([], 1, tokenizer)
