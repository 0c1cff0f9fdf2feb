"""Process rewards: which steps are right, and what each token gets for it."""

import pytest

from trlm_utils import chat, nanoworld
from trlm_utils.rewards import step_rewards

LENGTHS = [1, 1, 1, 1, 2, 2]
PROBLEM = nanoworld.make_problem("process", 1, lengths=(0, 1))
CAREFUL = nanoworld.careful_trace(PROBLEM)
ANSWER = nanoworld.answer_text(PROBLEM.answer)


@pytest.fixture
def marks(tokenizer):
    def of(thought):
        ids = tokenizer(chat.think(thought, ANSWER), add_special_tokens=False)["input_ids"]
        return ids, step_rewards.steps(ids, tokenizer, step_rewards.expected(PROBLEM))

    return of


def test_careful_steps_are_all_right_and_end_at_their_full_stops(marks, tokenizer):
    ids, found = marks(CAREFUL)
    assert [reward for _, reward in found] == [1.0, 1.0]
    assert all(tokenizer.decode([ids[end]]).strip() == "." for end, _ in found)


def test_a_wrong_step_and_empty_talk_are_wrong(marks):
    thought, _ = nanoworld.teach(PROBLEM, "slipping")
    assert 0.0 in [reward for _, reward in marks(thought)[1]]
    assert [reward for _, reward in marks("This is easy.")[1]] == [0.0]


def test_saying_a_right_step_again_does_not_pay(marks):
    first = CAREFUL.split(". ")[0] + "."
    rewards = [reward for _, reward in marks(f"{first} {first} {first}")[1]]
    assert rewards == [1.0, 0.0, 0.0]


def test_what_stands_behind_the_thought_is_no_step(marks, tokenizer):
    ids, found = marks(CAREFUL)
    assert step_rewards.step_ends(ids, tokenizer) == [end for end, _ in found]
    assert max(end for end, _ in found) < len(ids) - 3


def test_token_advantages_by_hand():
    # rewards 1, 1, 0 have the mean 2/3: a right step is worth 1/3, the wrong one -2/3
    group = [[(1, 1.0), (2, 1.0)], [(0, 0.0)]]
    one, other = step_rewards.token_advantages(group, [4, 2], scale=False)
    assert one == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0.0])
    assert other == pytest.approx([-2 / 3, 0.0])


def test_token_advantages_divided_by_the_spread():
    # rewards 1 and 0: deviation 0.7071 (unbiased)
    (one,), (other,) = step_rewards.token_advantages([[(0, 1.0)], [(0, 0.0)]], [1, 1])
    assert one == pytest.approx(0.5 / (0.5**0.5 + 1e-4))
    assert other == -one


def test_a_group_that_agrees_teaches_nothing():
    assert step_rewards.token_advantages([[(0, 1.0)], [(0, 1.0)]], [1, 1]) == [[0.0], [0.0]]


def test_smallest_advantages_by_hand():
    # worth of the completions: 1 and 0, mean 0.5; the second is right after its slip
    group = [[(1, 1.0), (2, 1.0)], [(0, 0.0), (1, 1.0)]]
    one, other = step_rewards.smallest_advantages(group, [4, 2], scale=False)
    assert one == [0.5, 0.5, 0.5, 0.0]
    assert other == [-0.5, 0.5]


def test_a_step_and_the_answer_on_one_token_add_up():
    # rewards 1, 0 and 0, 0 have the mean 1/4: the first token gets 3/4 - 1/4 from both
    group = [[(0, 1.0), (0, 0.0)], [(0, 0.0), (1, 0.0)]]
    one, other = step_rewards.token_advantages(group, [1, 2], scale=False)
    assert one == [0.5]
    assert other == [-0.5, -0.25]


@pytest.mark.parametrize("order", [[(0, 1.0), (0, 0.0)], [(0, 0.0), (0, 1.0)]])
def test_of_a_step_and_the_answer_on_one_token_the_worse_counts(order):
    # worst rewards 0 and 1, mean 1/2
    one, other = step_rewards.smallest_advantages([order, [(0, 1.0)]], [1, 1], scale=False)
    assert one == [-0.5]
    assert other == [0.5]


def test_smallest_advantages_do_not_count_the_steps():
    few, many = [(3, 1.0)], [(0, 1.0), (1, 1.0), (3, 1.0)]
    wrong = [(3, 0.0)]
    a, b, _ = step_rewards.smallest_advantages([few, many, wrong], [4, 4, 4])
    assert a == b
    c, d, _ = step_rewards.token_advantages([few, many, wrong], [4, 4, 4])
    assert c[0] != d[0]  # by sums they do


def test_a_completion_without_steps_is_worth_nothing():
    (right, empty) = step_rewards.smallest_advantages([[(0, 1.0)], []], [1, 2], scale=False)
    assert (right, empty) == ([0.5], [0.0, 0.0])


def test_the_problem_behind_a_prompt():
    problem = nanoworld.make_problem("grpo", 7, seed=3, lengths=LENGTHS)
    row = {"id": problem.id, "prompt": chat.to_prompt(problem.question)}
    assert step_rewards.problem_of(row, lengths=LENGTHS) == problem
    other = {"id": problem.id, "prompt": chat.to_prompt("What is 2 + 2?")}
    for bad in (other, {**row, "id": "gsm8k-4"}):
        with pytest.raises(ValueError, match="cannot be made again"):
            step_rewards.problem_of(bad, lengths=LENGTHS)


def test_steps_are_found_where_a_tag_is_several_tokens(downloaded):
    """The last full stop shares its token with the beginning of the closing tag."""
    reply = chat.think(CAREFUL, ANSWER)
    ids = downloaded(reply, add_special_tokens=False)["input_ids"]
    assert ".</" in [downloaded.decode([i]) for i in ids]
    assert len(downloaded.tokenize("</think>")) > 1
    found = step_rewards.steps(ids, downloaded, step_rewards.expected(PROBLEM))
    assert [reward for _, reward in found] == [1.0, 1.0]
    assert downloaded.decode(ids[: found[-1][0] + 1]) == f"<think> {CAREFUL}</"
