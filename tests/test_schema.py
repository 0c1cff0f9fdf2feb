"""Rows of every origin in one schema."""

import pytest

from trlm_utils.curation import schema
from trlm_utils.curation.schema import Unfit

PLAIN = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": PLAIN},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"prompt": "Q", "completion": "A"},
        {"prompt": PLAIN[:1], "completion": PLAIN[1:]},
        {"instruction": "Q", "output": "A"},
        {"question": "Q", "response": "A", "answer": "other"},
    ],
)
def test_every_form_of_conversation(row):
    assert schema.bring(row, "messages", {}) == {"messages": PLAIN}


def test_a_question_with_a_short_answer_is_answered_in_a_sentence():
    row = schema.bring({"problem": "Q", "answer": "4"}, "messages", {})
    assert row["messages"][-1]["content"] == "The answer is 4."


def test_a_worked_solution_becomes_the_thought():
    source = {"columns": {"thought": "answer"}, "answer_form": "gsm8k"}
    raw = {"question": "Q", "answer": "2 and 2 is <<2+2=4>>4.\nDone.\n#### 4"}
    reply = schema.bring(raw, "messages", source)["messages"][-1]["content"]
    assert reply == "<think> 2 and 2 is 4. Done.</think> The answer is 4."


def test_a_boxed_answer_is_read_out_of_the_solution():
    source = {"columns": {"answer": "solution"}, "answer_form": "boxed"}
    row = schema.bring({"problem": "Q", "solution": r"So \boxed{\frac{1}{2}}."}, "prompts", source)
    assert row["answer"] == r"\frac{1}{2}"


def test_system_messages_of_turns_columns_and_sources():
    own = [{"role": "system", "content": "S"}, *PLAIN]
    assert schema.bring({"messages": own}, "messages", {"system": "T"})["messages"] == own
    assert schema.bring({"messages": PLAIN}, "messages", {"system": "S"})["messages"] == own
    shared = {"system": "S", "conversations": PLAIN}
    assert schema.bring(shared, "messages", {})["messages"] == own
    empty = [{"role": "system", "content": ""}, *PLAIN]
    assert schema.bring({"messages": empty}, "messages", {})["messages"] == PLAIN


def test_thoughts_in_other_marks_are_brought_to_one_contract():
    reply = (
        "<|begin_of_thought|>\n2 and 2: 4.\n<|end_of_thought|>\n\n"
        "<|begin_of_solution|>\n4\n<|end_of_solution|>"
    )
    row = {"messages": [PLAIN[0], {"role": "assistant", "content": reply}]}
    (_, last) = schema.bring(row, "messages", {})["messages"]
    assert last["content"] == "<think> 2 and 2: 4.</think> 4"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "no question"),
        ({"messages": PLAIN[:1]}, "the assistant does not end it"),
        ({"messages": PLAIN[1:]}, "turns do not alternate"),
        ({"messages": [*PLAIN, *PLAIN[1:]]}, "turns do not alternate"),
        ({"messages": [PLAIN[0], {"role": "assistant", "content": "  "}]}, "an empty turn"),
        ({"messages": [PLAIN[0], {"role": "assistant", "content": None}]}, "an empty turn"),
        ({"messages": [PLAIN[0], {"role": "tool", "content": "x"}]}, "unknown role 'tool'"),
        ({"messages": ["hello"]}, "a turn is no object"),
        ({"messages": "hello"}, "no turns"),
        ({"question": "Q"}, "no reply"),
        ({"answer": "4"}, "no question"),
        ({"question": 7, "answer": "4"}, "no question"),
    ],
)
def test_unfit_conversations_say_why(row, reason):
    with pytest.raises(Unfit, match=f"^{reason}$"):
        schema.bring(row, "messages", {})


def test_preferences_of_every_form():
    other = [PLAIN[0], {"role": "assistant", "content": "B"}]
    wanted = {"prompt": PLAIN[:1], "chosen": PLAIN[1:], "rejected": other[1:]}
    for row in (
        {"chosen": PLAIN, "rejected": other},
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": PLAIN[:1], "chosen": PLAIN[1:], "rejected": other[1:]},
        {
            "question": "Q",
            "chosen": {"from": "gpt", "value": "A"},
            "rejected": {"from": "gpt", "value": "B"},
        },
    ):
        assert schema.bring(row, "preferences", {}) == wanted


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": PLAIN}, "no rejected reply"),
        ({"chosen": PLAIN, "rejected": PLAIN}, "both replies are the same"),
        (
            {
                "chosen": PLAIN,
                "rejected": [{"role": "user", "content": "R"}, PLAIN[1]],
            },
            "not two replies to one prompt",
        ),
    ],
)
def test_unfit_preferences_say_why(row, reason):
    with pytest.raises(Unfit, match=reason):
        schema.bring(row, "preferences", {})


def test_prompts_have_an_answer_or_else_a_reference():
    assert schema.bring({"problem": "Q", "answer": 4}, "prompts", {}) == {
        "prompt": PLAIN[:1],
        "answer": "4",
    }
    source = {"columns": {"reference": "reply"}}
    row = schema.bring({"prompt": PLAIN[:1], "reply": "A poem."}, "prompts", source)
    assert row == {"prompt": PLAIN[:1], "reference": "A poem."}
    with pytest.raises(Unfit, match="no answer"):
        schema.bring({"problem": "Q"}, "prompts", {})


def test_evaluation_rows_name_their_band():
    raw = {"question": "Q", "answer": "x\n#### 1,200", "_source_dataset": "a/b"}
    source = {"answer_form": "gsm8k", "band": "gsm8k_test"}
    row = schema.bring(raw, "eval", source)
    assert (row["band"], row["question"]) == ("gsm8k_test", "Q")
    assert row["answer"].replace(",", "") == "1200"
    assert schema.bring(raw, "eval", {})["band"] == "a/b"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sft_stage2", "messages"),
        ("preferences", "preferences"),
        ("grpo_prompts", "prompts"),
        ("eval", "eval"),
    ],
)
def test_the_name_of_a_data_set_says_its_kind(name, kind):
    assert schema.kind_of(name) == kind


@pytest.mark.parametrize(
    "reply",
    [
        "<think>\n2 and 2: 4.\n</think>\n\n4",
        "<think>2 and 2: 4.</think><answer>4</answer>",
        "<reasoning>2 and 2: 4.</reasoning>\n<answer>\n4\n</answer>",
        "<|begin_of_thought|>2 and 2: 4.<|end_of_thought|>"
        "<|begin_of_solution|>4<|end_of_solution|>",
    ],
)
def test_any_marks_can_be_brought_to_the_contract_of_a_recipe(reply):
    wanted = "<reasoning> 2 and 2: 4.</reasoning>\n<answer> 4</answer>"
    assert schema.one_contract(reply, "reasoning_answer") == wanted


def test_without_a_whole_thought_there_is_nothing_to_bring():
    for reply in ("4", "<think> 2 and 2", "<think></think> 4"):
        with pytest.raises(Unfit, match="no whole thought"):
            schema.one_contract(reply, "think_answer")
        assert schema.one_contract(reply) == reply


def test_a_column_may_lie_inside_another():
    row = {"prompt": "Q", "reward_model": {"ground_truth": "Carbon dioxide"}}
    source = {"columns": {"reference": "reward_model.ground_truth"}}
    assert schema.bring(row, "prompts", source)["reference"] == "Carbon dioxide"
    with pytest.raises(Unfit, match="no answer"):
        schema.bring({"prompt": "Q"}, "prompts", source)
