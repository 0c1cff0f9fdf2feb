"""Rewards that know nothing of the answer."""

from types import SimpleNamespace

from trlm_utils.rewards import controls, hack_bench, mixes


def said(answer):
    return f"<think> x</think> The answer is {answer}."


def test_a_coin_depends_on_step_and_place_and_not_on_what_is_said():
    first = controls.coin([said(4)] * 64)
    assert first == controls.coin([said(5)] * 64) and 20 < sum(first) < 44
    later = controls.coin([said(4)] * 64, trainer_state=SimpleNamespace(global_step=1))
    assert later != first
    assert controls.coin([said(4)] * 64, seed=1) != first
    assert controls.coin([said(4)] * 8, chance=0.0) == [0.0] * 8


def test_the_majority_is_that_of_each_prompt_s_own_group():
    replies = [said(4), said(4), said(5), said(5), said("5.0"), said(4)]
    prompts = ["a", "a", "a", "b", "b", "b"]
    assert controls.majority(replies, prompts=prompts) == [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]


def test_a_majority_may_be_wrong_and_a_reply_without_an_answer_never_belongs_to_it():
    replies = [said(5), said(5), said(4), "<think> never closed"]
    assert controls.majority(replies, answer=["4"] * 4) == [1.0, 1.0, 0.0, 0.0]
    assert controls.majority(["<think> a", "<think> b"]) == [0.0, 0.0]


def test_the_bench_does_not_judge_them():
    assert not set(mixes.CONTROLS) & set(hack_bench.all_mixes())
