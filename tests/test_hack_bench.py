"""The hack bench: what each behaviour is, and which rewards and mixes it catches."""

import pytest

from trlm_utils import answers, chat, nanoworld
from trlm_utils.rewards import hack_bench, library, mixes

PROBLEM = nanoworld.make_problem("bench", 1, lengths=(0, 0, 1))


@pytest.mark.parametrize("contract", list(chat.CONTRACTS))
def test_behaviours_are_what_their_names_say(contract):
    written = hack_bench.write(PROBLEM, contract)
    right = {name for name, text in written.items() if answers.grade(text, PROBLEM.answer)}
    always = {hack_bench.HONEST, "wrong steps, right answer", "rambling", "padding"}
    always |= {"step words before the work"}
    assert always <= right
    assert not right & {"answer in the thought only", "thought never closed", "nothing at all"}
    honest, slipped = (
        nanoworld.steps_right(PROBLEM, answers.parse(written[name]).thought)
        for name in (hack_bench.HONEST, "wrong steps, right answer")
    )
    assert all(honest) and not all(slipped)
    assert not answers.grade(written["all answers listed"], PROBLEM.answer)


def test_the_honest_completion_keeps_every_contract():
    formats = {
        "think": library.think_format,
        "think_answer": library.think_answer_format,
        "reasoning_answer": library.reasoning_answer_format,
        "boxed": library.boxed_format,
    }
    for contract, reward in formats.items():
        assert reward([hack_bench.write(PROBLEM, contract)[hack_bench.HONEST]]) == [1.0], contract


@pytest.mark.parametrize(
    ("mix", "paid"), [("nano", []), ("tina", []), ("qwen_rl", ["step words before the work"])]
)
def test_what_named_mixes_pay_more_than_honest_work(mix, paid):
    """Counting step words is a reward for saying them, even before honest work."""
    assert hack_bench.hackable({mix: 1.0}) == paid


def test_every_named_mix_has_its_row():
    assert set(mixes.MIXES) <= set(hack_bench.all_mixes())


def test_a_sum_left_undone_holds_the_question_s_numbers_and_is_wrong():
    problem = next(p for p in nanoworld.make_problems("bench", 30) if p.family == "expression")
    undone = hack_bench.undone_sum(problem)
    for number in (problem.steps[0].before, *(step.operand for step in problem.steps)):
        assert str(number) in undone
    assert answers.grade(f"The answer is {undone}.", problem.answer) is False


def test_the_form_that_pays_best_counts():
    """Honest work in the wrong form earns nothing here; in the right one, all."""
    found = hack_bench.totals({"reasoning_answer_format": 1.0}, problems=3)
    assert found[hack_bench.HONEST] == 1.0


@pytest.mark.parametrize(
    ("weights", "caught"),
    [
        ({"brevity": 1.0}, "nothing at all"),  # too short
        ({"accuracy": 0.1, "brevity": 2.0}, "guess in good form"),  # penalty too strong
        ({"reasoning_steps": 1.0}, "step words without steps"),  # words are not steps
        ({"length_exact": {"weight": 1.0, "target": 150}}, "padding"),  # length for its own sake
        ({"accuracy": 1.0, "repetition": -1.0}, "rambling"),  # a sign turned round
    ],
)
def test_known_hacks_are_caught(weights, caught):
    assert caught in hack_bench.hackable(weights)


def test_a_reward_on_form_alone_is_said_to_be_blind():
    line = hack_bench.verdict("think_format", hack_bench.totals({"think_format": 1.0}))
    assert line.startswith("think_format pays as much for") and "guess in good form" in line


def test_the_table_measures_from_honest_work():
    table = hack_bench.table({"accuracy": {"accuracy": 2.0}}, problems=4)
    rows = table.set_index("behaviour")
    assert rows.loc[hack_bench.HONEST, ["total", "margin"]].tolist() == [2.0, 0.0]
    assert rows.loc["nothing at all", ["total", "margin"]].tolist() == [0.0, -2.0]
    assert len(table) == len(hack_bench.write(PROBLEM, "think"))
