"""Rewards: tables of completions, both completion forms, the mix, the advantages."""

import math

import pytest

from trlm_utils import chat, rewards, world

GOOD = "<think> 2 and 2: 4.</think> The answer is 4."


def conversational(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("form", [str, conversational], ids=["text", "messages"])
def test_accuracy_takes_both_forms(form):
    scores = rewards.accuracy([form(GOOD), form("The answer is 5.")], answer=["4", "4"])
    assert scores == [1.0, 0.0]


def test_accuracy_skips_rows_without_a_gold_answer():
    assert rewards.accuracy([GOOD], answer=[""]) == [None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, 1.0),
        ("<think></think> 4", 0.0),
        ("<think> a</think></think> 4", 0.0),
        ("4", 0.0),
    ],
)
def test_think_format(text, expected):
    assert rewards.think_format([text]) == [expected]


def test_trl_accepts_an_empty_thought_and_ours_does_not():
    from trl.rewards import think_format_reward

    empty = "<think></think> The answer is 4."
    assert think_format_reward([conversational(empty)]) == [1.0]
    assert rewards.think_format([empty]) == [0.0]


def test_trl_grades_no_plain_answer_and_ours_does():
    from trl.rewards import accuracy_reward

    assert accuracy_reward([conversational(GOOD)], solution=["4"]) == [0.0]
    assert rewards.accuracy([GOOD], answer=["4"]) == [1.0]


def test_every_taught_completion_is_well_formed():
    for problem in world.make_problems("rewards", 30):
        for teacher in world.TEACHERS:
            thought, answer = world.teach(problem, teacher)
            text = chat.think(thought, world.answer_text(answer))
            assert rewards.think_format([text]) == [1.0]


def test_repetition_counts_repeated_sentences():
    once = "<think> a b. c d.</think> x"
    twice = "<think> a b. a b. c d. c d.</think> x"
    assert rewards.repetition([once, twice, "x"]) == [0.0, -0.5, 0.0]


def test_brevity_grows_with_length_and_stops_at_one():
    assert rewards.brevity(["w " * 50, "w " * 500]) == [-0.5, -1.0]


def test_score_adds_weighted_parts():
    (row,) = rewards.score({"accuracy": 1.0, "think_format": 0.1}, [GOOD], answer=["4"])
    assert row == {"accuracy": 1.0, "think_format": 1.0, "total": pytest.approx(1.1)}


def test_default_mix_orders_behaviours_as_meant():
    problem = world.make_problem("order", 0, steps=(3, 3))
    careful = world.careful_trace(problem)
    rambling, _ = world.teach(problem, "rambling")
    right, wrong = world.answer_text(problem.answer), world.answer_text("none")
    texts = [
        chat.think(careful, right),
        chat.think(rambling, right),
        chat.think(careful, wrong),
        f"<think> {careful} {right}",
    ]
    mix = {"accuracy": 1.0, "think_format": 0.1, "repetition": 0.1}
    totals = [r["total"] for r in rewards.score(mix, texts, answer=[problem.answer] * 4)]
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == 4


def test_advantages_by_hand():
    # rewards 1, 0, 0, 0: mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4
    expected = [0.75 / (0.5 + 1e-4), *[-0.25 / (0.5 + 1e-4)] * 3]
    assert rewards.advantages([1, 0, 0, 0]) == pytest.approx(expected)
    assert rewards.advantages([1, 0, 0, 0], scale=False) == [0.75, -0.25, -0.25, -0.25]


def test_a_group_that_agrees_has_no_advantage():
    assert rewards.advantages([1, 1, 1]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"accurracy": 1.0}, "unknown reward"),
        ({}, "no reward"),
        ({"accuracy": "1"}, "not a number"),
        ({"accuracy": math.nan}, "nan"),
    ],
)
def test_bad_mixes_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        rewards.choose(weights)
