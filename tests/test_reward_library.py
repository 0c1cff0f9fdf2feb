"""Rewards: tables of completions, both completion forms, the mix, the advantages."""

import math

import pytest

from trlm_utils import chat, models, nanoworld
from trlm_utils.rewards import library, mixes, model_rewards, reward_models

GOOD = "<think> 2 and 2: 4.</think> The answer is 4."


def conversational(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("form", [str, conversational], ids=["text", "messages"])
def test_accuracy_takes_both_forms(form):
    scores = library.accuracy([form(GOOD), form("The answer is 5.")], answer=["4", "4"])
    assert scores == [1.0, 0.0]


def test_accuracy_skips_rows_without_a_gold_answer():
    assert library.accuracy([GOOD], answer=[""]) == [None]


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
    assert library.think_format([text]) == [expected]


def test_trl_accepts_an_empty_thought_and_ours_does_not():
    from trl.rewards import think_format_reward

    empty = "<think></think> The answer is 4."
    assert think_format_reward([conversational(empty)]) == [1.0]
    assert library.think_format([empty]) == [0.0]


def test_trl_grades_no_plain_answer_and_ours_does():
    from trl.rewards import accuracy_reward

    assert accuracy_reward([conversational(GOOD)], solution=["4"]) == [0.0]
    assert library.accuracy([GOOD], answer=["4"]) == [1.0]


def test_every_taught_completion_is_well_formed():
    for problem in nanoworld.make_problems("rewards", 30):
        for teacher in nanoworld.TEACHERS:
            thought, answer = nanoworld.teach(problem, teacher)
            text = chat.think(thought, nanoworld.answer_text(answer))
            assert library.think_format([text]) == [1.0]


def test_repetition_counts_repeated_sentences():
    once = "<think> a b. c d.</think> x"
    twice = "<think> a b. a b. c d. c d.</think> x"
    assert library.repetition([once, twice, "x"]) == [0.0, -0.5, 0.0]


def test_brevity_grows_with_length_and_stops_at_one():
    assert library.brevity(["w " * 50, "w " * 500]) == [-0.5, -1.0]


def test_score_adds_weighted_parts():
    (row,) = mixes.score({"accuracy": 1.0, "think_format": 0.1}, [GOOD], answer=["4"])
    assert row == {"accuracy": 1.0, "think_format": 1.0, "total": pytest.approx(1.1)}


def test_default_mix_orders_behaviours_as_meant():
    problem = nanoworld.make_problem("order", 0, lengths=(0, 0, 1))
    careful = nanoworld.careful_trace(problem)
    rambling, _ = nanoworld.teach(problem, "rambling")
    right, wrong = nanoworld.answer_text(problem.answer), nanoworld.answer_text("none")
    texts = [
        chat.think(careful, right),
        chat.think(rambling, right),
        chat.think(careful, wrong),
        f"<think> {careful} {right}",
    ]
    mix = {"accuracy": 1.0, "think_format": 0.1, "repetition": 0.1}
    totals = [r["total"] for r in mixes.score(mix, texts, answer=[problem.answer] * 4)]
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == 4


def test_advantages_by_hand():
    # rewards 1, 0, 0, 0: mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4
    expected = [0.75 / (0.5 + 1e-4), *[-0.25 / (0.5 + 1e-4)] * 3]
    assert mixes.advantages([1, 0, 0, 0]) == pytest.approx(expected)
    assert mixes.advantages([1, 0, 0, 0], scale=False) == [0.75, -0.25, -0.25, -0.25]


def test_a_group_that_agrees_has_no_advantage():
    assert mixes.advantages([1, 1, 1]) == [0, 0, 0]


@pytest.fixture
def asked(model, tokenizer, tmp_path):
    models.save_model(model, tokenizer, tmp_path / "model")
    judge = reward_models.load_outcome(tmp_path / "model")
    return model_rewards.Models(policy=model, tokenizer=tokenizer, judge=judge)


@pytest.mark.parametrize("form", [str, conversational], ids=["text", "messages"])
@pytest.mark.parametrize("name", list(mixes.REWARDS))
def test_every_reward_takes_both_forms_and_is_documented(name, form, asked):
    (reward,), _ = mixes.choose({name: 1.0}, asked)
    prompts = [[{"role": "user", "content": "What is 2 + 2?"}]] * 2
    scores = reward(completions=[form(GOOD), form("")], prompts=prompts, answer=["4", "4"])
    assert len(scores) == 2 and all(isinstance(x, float) for x in scores)
    assert mixes.REWARDS[name].__doc__


CONTRACT = "<think> 2 and 2: 4.</think>\n<answer>4</answer>"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("think_answer_format", CONTRACT, 1.0),
        ("think_answer_format", CONTRACT + " More.", 0.0),  # text after the answer
        ("think_answer_format", "So. " + CONTRACT, 0.0),  # text before the thought
        ("think_answer_format", "<think> </think><answer>4</answer>", 0.0),  # empty thought
        ("think_answer_format", "<think>a</think><answer> </answer>", 0.0),  # empty answer
        ("think_answer_format", "<answer>4</answer><think>a</think>", 0.0),  # order
        ("think_answer_format", CONTRACT + CONTRACT, 0.0),  # twice
        ("think_answer_format", "<think>a<answer>4</answer></think><answer>4</answer>", 0.0),
        ("think_answer_format", CONTRACT.replace("think", "reasoning"), 0.0),
        ("reasoning_answer_format", CONTRACT.replace("think", "reasoning"), 1.0),
        ("reasoning_answer_format", CONTRACT, 0.0),
        ("think_format", "<reasoning>a</reasoning> 4", 0.0),  # another contract
        ("think_format", "a</think> 4", 0.0),  # no opening tag
        ("boxed_format", r"<think> a.</think> \boxed{5} \fbox{4}", 0.0),  # two kinds
        ("boxed_format", r"<think> a.</think> So \boxed{4}.", 1.0),
        ("boxed_format", r"<think> \boxed{4}.</think> 4", 0.0),  # in the thought only
        ("boxed_format", r"<think> a.</think> \boxed{4} or \boxed{5}", 0.0),  # two
        ("boxed_format", r"<think> a.</think> \boxed{ }", 0.0),  # empty
        ("tag_count", GOOD, 1.0),
        ("tag_count", "<think><think> a</think> 4", 0.5),  # one tag twice
        ("tag_count", "</think> a <think> 4", 1.0),  # blind to order, as documented
        ("reasoning_steps", "Step 1: a\nStep 2: b\n3. c", 1.0),
        ("reasoning_steps", "First, a. Then, b.", 2 / 3),
        ("reasoning_steps", "At first it was 4.", 0.0),  # the word without its comma
    ],
)
def test_forms(name, text, expected):
    assert mixes.REWARDS[name]([text]) == [pytest.approx(expected)]


def test_a_prefilled_opening_tag_is_tolerated_where_it_is_asked_for():
    cut = "2 and 2: 4.</think> <answer>4</answer>"
    assert library.think_answer_format([cut]) == [0.0]
    assert library.think_answer_format([cut], prefilled=True) == [1.0]
    unclosed = "2 and 2: 4. The answer is 4."
    assert library.accuracy([unclosed], ["4"]) == [1.0]
    assert library.accuracy([unclosed], ["4"], prefilled=True) == [0.0]


def long_reply(words, said="4"):
    return "w " * (words - 2) + f"answer: {said}"


def test_length_in_group_by_hand():
    # lengths 10, 20, 30: shares 0.5, 0, -0.5; a wrong answer gets no more than 0
    texts = [long_reply(10), long_reply(20), long_reply(30), long_reply(10, "5")]
    scores = library.length_in_group(texts, ["4"] * 4, prompts=["p"] * 4)
    assert scores == pytest.approx([0.5, 0.0, -0.5, 0.0])


def test_a_long_wrong_answer_is_punished_in_its_group():
    texts = [long_reply(10), long_reply(30, "5"), long_reply(20)]
    assert library.length_in_group(texts, ["4"] * 3) == pytest.approx([0.5, -0.5, 0.0])


def test_length_rewards_stop_at_their_ends():
    assert library.length_max([long_reply(2)], ["4"], target=900, slope=0.01) == [1.0]
    assert library.length_exact([long_reply(900)], target=10, slope=0.01) == [-1.0]
    assert library.overlong([long_reply(128), long_reply(144), long_reply(161)]) == [0, -0.5, -1]


def test_parts_that_do_not_apply_count_nothing():
    (row,) = mixes.score({"accuracy": 1.0, "think_format": 0.1}, [GOOD], answer=[""])
    assert row["total"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["length_max", "cosine", "length_in_group"])
def test_an_unclosed_prefilled_thought_has_no_answer_for_length_either(name):
    texts = ["2 and 2: 4. The answer is 4.", "2 and 2: so. And so on. The answer is 5."]
    closed, opened = (mixes.REWARDS[name](texts, ["4", "4"], prefilled=p)[0] for p in (False, True))
    assert closed > 0 >= opened


def test_length_in_group_looks_at_each_group_alone():
    texts = [long_reply(10), long_reply(20), long_reply(40), long_reply(40)]
    scores = library.length_in_group(texts, ["4"] * 4, prompts=["p", "p", "q", "q"])
    assert scores == [0.5, -0.5, 0.0, 0.0]  # in q all are equally long


def test_lengths_are_tokens_where_trl_hands_them_over():
    ids = [[1] * 30]
    assert library.length_exact(["4"], completion_ids=ids, target=20, slope=0.01) == [
        pytest.approx(-0.1)
    ]
    assert library.overlong(["4"], completion_ids=[[1] * 200]) == [-1.0]
    assert library.ngram_repetition(["4"], completion_ids=[[5, 5, 5, 5]]) == [-0.5]


def test_length_max_by_hand():
    # slope 0.01, target 20, offset 0.5: 20 words 0.5, 50 words 0.2, 100 words 0, wrong 0
    texts = [long_reply(20), long_reply(50), long_reply(100), long_reply(20, "5")]
    scores = library.length_max(texts, ["4"] * 4, target=20, slope=0.01)
    assert scores == pytest.approx([0.5, 0.2, 0.0, 0.0])


def test_cosine_by_hand():
    # half of the budget: halfway between the ends; beyond the budget: as at its end
    texts = [long_reply(50), long_reply(500), long_reply(50, "5"), long_reply(500, "5")]
    scores = library.cosine(texts, ["4"] * 4, max_length=100)
    assert scores == pytest.approx([0.75, 0.5, -0.75, -0.5])


def test_trls_cosine_takes_a_plain_right_answer_for_wrong_and_ours_does_not():
    from trl.rewards import get_cosine_scaled_reward

    theirs = get_cosine_scaled_reward(max_len=100)
    assert theirs([conversational(GOOD)], solution=["4"], completion_ids=[[1]])[0] < 0
    assert library.cosine([GOOD], ["4"])[0] > 0


def test_settings_stand_beside_the_weight():
    functions, values = mixes.choose({"cosine": {"weight": 2.0, "max_length": 100}})
    assert values == [2.0]
    assert functions[0].__name__ == "cosine"  # the name TRL logs it under
    assert functions[0](completions=[long_reply(50)], answer=["4"]) == pytest.approx([0.75])


def test_a_mix_is_its_parts_times_its_weight():
    functions, values = mixes.choose({"tina": 0.5, "accuracy": 1.0})
    found = dict(zip((f.__name__ for f in functions), values, strict=True))
    assert found == {"think_format": 0.5, "cosine": 1.0, "accuracy": 1.0}


def test_every_named_mix_can_be_chosen():
    for name in mixes.MIXES:
        functions, _ = mixes.choose({name: 1.0})
        assert len(functions) == len(mixes.MIXES[name])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"cosine": {"weight": 1.0, "max_len": 5}}, "no setting .'max_len'.; it has: max_length"),
        ({"cosine": {"max_length": 5}}, "weight of cosine is None"),
        ({"cosine": {"weight": 1.0, "max_length": 0}}, "max_length of cosine is 0, not a whole"),
        ({"cosine": {"weight": 1.0, "max_length": "long"}}, "max_length of cosine is 'long'"),
        (
            {"cosine": {"weight": 1.0, "max_length": 9.5}},
            "max_length of cosine is 9.5, not",
        ),
        ({"length_exact": {"weight": 1.0, "slope": math.inf}}, "slope of length_exact is inf"),
        ({"accuracy": {"weight": 1.0, "prefilled": 1}}, "prefilled of accuracy is 1, not true or"),
        ({"tag_count": {"weight": 1.0, "tags": "<a>"}}, "tags of tag_count is '<a>', not a list"),
        ({"tag_count": {"weight": 1.0, "tags": []}}, "tags of tag_count is .., not a list"),
        ({"tina": {"weight": 1.0}}, "weight of tina"),
        ({"tina": 1.0, "cosine": 1.0}, "cosine occurs twice"),
        ({"accurracy": 1.0}, "unknown reward"),
        ({}, "no reward"),
        ({"accuracy": "1"}, "not a number"),
        ({"accuracy": math.nan}, "nan"),
    ],
)
def test_bad_mixes_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        mixes.choose(weights)
