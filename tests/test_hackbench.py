"""The hack bench: what each behaviour is, and which rewards and mixes it catches."""

import pytest

from trlm_utils import answers, chat, hackbench, rewards, world

PROBLEM = world.make_problem("bench", 1, steps=(3, 3))


@pytest.mark.parametrize("contract", list(chat.CONTRACTS))
def test_behaviours_are_what_their_names_say(contract):
    written = hackbench.write(PROBLEM, contract)
    right = {name for name, text in written.items() if answers.grade(text, PROBLEM.answer)}
    always = {hackbench.HONEST, "wrong steps, right answer", "rambling", "padding"}
    always |= {"step words before the work"}
    assert always <= right
    assert not right & {"answer in the thought only", "thought never closed", "nothing at all"}
    honest, slipped = (
        world.steps_right(PROBLEM, answers.parse(written[name]).thought)
        for name in (hackbench.HONEST, "wrong steps, right answer")
    )
    assert all(honest) and not all(slipped)
    assert not answers.grade(written["all answers listed"], PROBLEM.answer)


def test_the_honest_completion_keeps_every_contract():
    formats = {
        "think": rewards.think_format,
        "think_answer": rewards.think_answer_format,
        "reasoning_answer": rewards.reasoning_answer_format,
        "boxed": rewards.boxed_format,
    }
    for contract, reward in formats.items():
        assert reward([hackbench.write(PROBLEM, contract)[hackbench.HONEST]]) == [1.0], contract


@pytest.mark.parametrize(
    ("mix", "paid"), [("nano", []), ("tina", []), ("qwen_rl", ["step words before the work"])]
)
def test_what_named_mixes_pay_more_than_honest_work(mix, paid):
    """Counting step words is a reward for saying them, even before honest work."""
    assert hackbench.hackable({mix: 1.0}) == paid


def test_every_named_mix_has_its_row():
    assert set(rewards.MIXES) <= set(hackbench.all_mixes())


def test_a_sum_left_undone_holds_the_question_s_numbers_and_is_wrong():
    problem = next(p for p in world.make_problems("bench", 30) if p.family == "expression")
    undone = hackbench.undone_sum(problem)
    for number in (problem.steps[0].before, *(step.operand for step in problem.steps)):
        assert str(number) in undone
    assert answers.grade(f"The answer is {undone}.", problem.answer) is False


def test_the_form_that_pays_best_counts():
    """Honest work in the wrong form earns nothing here; in the right one, all."""
    found = hackbench.totals({"reasoning_answer_format": 1.0}, problems=3)
    assert found[hackbench.HONEST] == 1.0


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
    assert caught in hackbench.hackable(weights)


def test_a_reward_on_form_alone_is_said_to_be_blind():
    line = hackbench.verdict("think_format", hackbench.totals({"think_format": 1.0}))
    assert line.startswith("think_format pays as much for") and "guess in good form" in line


def test_the_table_measures_from_honest_work():
    table = hackbench.table({"accuracy": {"accuracy": 2.0}}, problems=4)
    rows = table.set_index("behaviour")
    assert rows.loc[hackbench.HONEST, ["total", "margin"]].tolist() == [2.0, 0.0]
    assert rows.loc["nothing at all", ["total", "margin"]].tolist() == [0.0, -2.0]
    assert len(table) == len(hackbench.write(PROBLEM, "think"))
