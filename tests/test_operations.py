"""Where a word problem goes wrong, on replies read by hand."""

from fractions import Fraction

import pytest

from trlm_utils.evaluation import operations, pooling


def reply(work, answer):
    return f"<think> {work}</think> The answer is {answer}."


@pytest.mark.parametrize(
    ("text", "gold", "kind"),
    [
        (reply("56 * 9 = 504.", 504), "504", "right"),
        (reply("56 * 9 = 494.", 494), "504", "arithmetic"),
        (reply("56 + 9 = 65.", 65), "504", "operations"),
        (reply("65 * 9 = 585.", 585), "504", "operations"),  # another number
        (reply("9 * 56 = 500.", 500), "504", "arithmetic"),  # the order does not matter
        # the slip of the first step is carried on, the second step is right
        (reply("43 - 16 = 37. 37 * 2 = 74.", 74), "54", "arithmetic"),
        (reply("43 - 16 = 37. 37 + 2 = 39.", 39), "54", "operations"),
        (reply("1,720 / 43 = 4.", 4), "40", "arithmetic"),
        (reply("10 / 4 = 2.", 2), "2.5", "arithmetic"),
        (reply("7 ÷ 2 = $3", 3), "3.5", "arithmetic"),
        (reply("8 / 0 = 8.", 8), "4", "no equation"),  # no value
        ("The answer is 12.", "13", "no equation"),
        ("5 + 8 = 12", "13", "arithmetic"),  # without a thought
    ],
)
def test_kinds(text, gold, kind):
    assert operations.failure(text, gold) == kind


def test_a_right_answer_is_right_whatever_the_work():
    assert operations.failure(reply("1 + 1 = 3.", 54), "54") == "right"


def test_exact_result_of_three_steps():
    # 20 / 8 is 2.5, stated as 2; 2 * 4 is then 10, stated as 8; 8 - 1 is 9
    assert operations.exact_result("20 / 8 = 2. 2 * 4 = 8. 8 - 1 = 7.") == Fraction(9)


def test_shares_count_replies():
    records = [
        {"gold": "5", "texts": [reply("2 + 3 = 5.", 5), reply("2 + 3 = 6.", 6)]},
        {"gold": "9", "texts": [reply("2 + 3 = 5.", 5), "none"]},
    ]
    expected = {"right": 0.25, "arithmetic": 0.25, "operations": 0.25, "no equation": 0.25}
    assert operations.shares(records) == expected
    assert operations.shares([]) == dict.fromkeys(operations.KINDS, 0.0)


GROUPS = {"stage": {"base": "a", "trained": "b"}}


def seed_folder(place):
    """Two word problems and one of NanoWorld, asked of two stages, greedily and in plain form."""
    from trlm_utils.files import write_rows

    asked = [
        {"id": "w1", "band": "word_problems", "question": "2 and 3?", "answer": "5"},
        {"id": "w2", "band": "word_problems", "question": "4 times 5?", "answer": "20"},
        {"id": "n1", "band": "in_distribution", "question": "?", "answer": "7", "worked": ["1"]},
    ]
    write_rows(place / "questions.jsonl", asked)
    texts = {
        "a": ["5", reply("4 + 5 = 9.", 9), "7"],
        "b": [reply("2 + 3 = 5.", 5), reply("4 * 5 = 30.", 30), "7"],
    }
    for stage, said in texts.items():
        rows = [
            {"id": q["id"], "band": q["band"], "gold": q["answer"], "texts": [text]}
            | {"form": form, "decoding": "greedy"}
            for form in ("chat", "plain")
            for q, text in zip(asked, said, strict=True)
        ]
        write_rows(place / f"records_{stage}.jsonl", rows)
    return place


def test_the_table_counts_chat_replies_to_word_problems_over_seeds(tmp_path):
    places = [seed_folder(tmp_path / "0"), seed_folder(tmp_path / "1")]
    records = pooling.read_records(places, ["a", "b"])
    found = operations.table(GROUPS, records, operations.foreign(places)).set_index("arm")
    assert found["n"].tolist() == [4, 4] and set(found["band"]) == {"word_problems"}
    assert found.loc["base", list(operations.KINDS)].tolist() == [0.5, 0.0, 0.5, 0.0]
    assert found.loc["trained", list(operations.KINDS)].tolist() == [0.5, 0.5, 0.0, 0.0]


def test_examples_are_the_same_questions_for_every_arm(tmp_path):
    places = [seed_folder(tmp_path)]
    records = pooling.read_records(places, ["a", "b"])
    found = operations.examples(GROUPS, records, operations.foreign(places), number=1)
    assert found["question"].tolist() == ["2 and 3?"] * 2
    assert found["kind"].tolist() == ["right", "right"] and found["reply"][0] == "5"
