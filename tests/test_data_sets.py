"""Curation: GSM8K and Hub schemas, contamination, duplicates, overlong rows."""

import json

import pytest

from trlm_utils import chat, nanoworld
from trlm_utils.curation import data_sets, gsm8k
from trlm_utils.files import CourseError, write_rows


def question(i):
    return f"Ana has {i} apples and buys 2. How many has she?"


@pytest.fixture
def folder_of_gsm8k(tmp_path):
    """A folder in GSM8K's form: four training and three test questions."""
    folder = tmp_path / "gsm8k"

    def row(i):
        work = f"She has {i} + 2 = <<{i}+2={i + 2}>>{i + 2} apples.\nDone.\n#### {i + 2}"
        return {"question": question(i), "answer": work}

    write_rows(folder / "train.jsonl", [row(i) for i in range(4)])
    write_rows(folder / "test.jsonl", [row(i) for i in range(10, 13)])
    solutions = {
        "a": {"is_correct": True, "solution": "10 + 2 = <<10+2=12>>12\nA: 12"},
        "b": {"is_correct": False, "solution": "10 - 2 = <<10-2=8>>8\nA: 8"},
    }
    rows = [{"question": question(10), "ground_truth": "A: 12", **solutions}]
    alike = {"a": solutions["b"], "b": solutions["b"]}
    rows.append({"question": question(11), "ground_truth": "A: 13", **alike})
    write_rows(folder / "model_solutions.jsonl", rows)
    return folder


def build(folder):
    return gsm8k.data_sets_of(folder, dpo_prompts=1, grpo_prompts=2, seed=0)


def test_gsm8k_rows_are_clean_conversations(folder_of_gsm8k):
    row = build(folder_of_gsm8k)["sft_stage2"][0]
    assert row["messages"] == chat.to_messages(
        question(0), "<think> She has 0 + 2 = 2 apples. Done.</think> The answer is 2."
    )


def test_gsm8k_preferences_need_a_right_and_a_wrong_solution(folder_of_gsm8k):
    (pair,) = build(folder_of_gsm8k)["preferences"]
    assert pair["chosen"][0]["content"].endswith("The answer is 12.")
    assert pair["rejected"][0]["content"].endswith("The answer is 8.")


def test_prompts_for_dpo_and_grpo_do_not_overlap(folder_of_gsm8k):
    sets = build(folder_of_gsm8k)
    ids = {name: {r["id"] for r in sets[name]} for name in ("dpo_prompts", "grpo_prompts")}
    assert not ids["dpo_prompts"] & ids["grpo_prompts"]
    assert (len(ids["dpo_prompts"]), len(ids["grpo_prompts"])) == (1, 2)


def test_contaminated_questions_are_found_and_left_out_of_the_evaluation(folder_of_gsm8k):
    sets = build(folder_of_gsm8k)
    found = data_sets.contaminated(sets, sets["eval"])
    assert {name for name, ids in found.items() if ids} == {"preferences"}
    kept, left_out = data_sets.leave_out(sets["eval"], found)
    assert left_out == 1
    assert question(10) not in [row["question"] for row in kept]


def test_case_and_spacing_do_not_hide_contamination_but_operators_count():
    assert data_sets.normal_form("How  MANY, a?") == data_sets.normal_form("how many a")
    assert data_sets.normal_form("a = 12 + 5") != data_sets.normal_form("a = 12 - 5")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "test.jsonl").unlink(), "test.jsonl is missing"),
        (
            lambda f: (f / "train.jsonl").write_text((f / "train.jsonl").read_text()[:-20]),
            "train.jsonl, line 4, is not complete JSON",
        ),
        (lambda f: (f / "train.jsonl").write_text('{"q": 1}\n'), "has no column"),
        (lambda f: (f / "train.jsonl").write_text(""), "has no column"),
    ],
    ids=["missing", "truncated", "wrong columns", "empty"],
)
def test_damaged_folders_are_refused(folder_of_gsm8k, damage, message):
    damage(folder_of_gsm8k)
    with pytest.raises(CourseError, match=message):
        gsm8k.check_folder(folder_of_gsm8k)


def test_duplicates_differ_in_content_not_in_id():
    rows = [{"id": i, "source": "s", "messages": m} for i, m in enumerate(("a", "a", "b"))]
    assert [row["id"] for row in data_sets.drop_duplicates(rows)] == [0, 2]


def test_overlong_rows_are_dropped_and_counted(tokenizer):
    rows = data_sets.world_prompts("overlong", 20, 0, [1, 1, 1, 1, 2, 2])
    lengths = data_sets.token_lengths(rows, tokenizer)
    limit = sorted(lengths)[10]
    kept, kept_lengths = data_sets.drop_overlong(rows, lengths, limit)
    assert kept_lengths == data_sets.token_lengths(kept, tokenizer)
    assert len(rows) - len(kept) == sum(n > limit for n in lengths) > 0


def test_length_of_a_preference_row_is_its_longer_side(tokenizer):
    row = data_sets.preference_row("id", "s", "Q", "short", "a much longer reply than that")
    sides = [len(tokenizer(t)["input_ids"]) for t in data_sets.texts_of(row, tokenizer)]
    assert data_sets.token_lengths([row], tokenizer) == [max(sides)]


def test_sample_per_band_keeps_order_and_bounds():
    rows = [{"id": i, "band": "b" if i % 2 else "a"} for i in range(40)]
    kept = data_sets.sample_per_band(rows, 5, 0)
    assert [row["band"] for row in kept] == ["a"] * 5 + ["b"] * 5
    assert kept == data_sets.sample_per_band(rows, 5, 0)


def test_sample_per_band_with_a_number_for_each_band():
    rows = [{"id": i, "band": "abc"[i % 3]} for i in range(30)]
    kept = data_sets.sample_per_band(rows, {"c": 3, "a": 20}, 0)
    assert [row["band"] for row in kept] == ["a"] * 10 + ["c"] * 3
    with pytest.raises(CourseError, match="EVAL_BANDS names 'd'; there are: a, b, c"):
        data_sets.sample_per_band(rows, {"a": 1, "d": 1}, 0)


def test_world_stage2_keeps_teacher_shares_and_rows_are_json():
    teachers = {"careful": 0.6, "hasty": 0.4}
    rows = data_sets.world_thinking(500, 0, teachers, [9, 9, 9, 9, 2, 2])
    hasty = sum(row["source"] == "nanoworld/hasty" for row in rows) / 500
    assert 0.33 < hasty < 0.47
    assert json.loads(json.dumps(rows[0])) == rows[0]


@pytest.mark.real_data
def test_gsm8k_model_solutions_contaminate_731_test_questions(real_data):
    sets = gsm8k.data_sets_of(real_data / "gsm8k", dpo_prompts=8, grpo_prompts=8, seed=0)
    found = data_sets.contaminated(sets, sets["eval"])
    kept, left_out = data_sets.leave_out(sets["eval"], found)
    assert len(sets["preferences"]) == len(found["preferences"]) == 731
    assert (left_out, len(kept)) == (731, 588)


def test_prompts_that_are_only_looked_at_do_not_contaminate():
    question = {"id": "e1", "question": "What is 2 and 2?", "answer": "4", "band": "a"}
    asked = {"id": "c1", "prompt": [{"role": "user", "content": "What is 2 and 2?"}]}
    sets = {"check_prompts": [asked], "grpo_prompts": [asked], "eval": [question]}
    assert data_sets.contaminated(sets, [question]) == {"grpo_prompts": {"e1"}}


def asks(sets, questions):
    """Names of the training sets that hold one of the questions."""
    wanted = {data_sets.normal_form(q) for q in questions}
    return {
        name
        for name, rows in sets.items()
        if name not in data_sets.NOT_TRAINED_ON
        and wanted & {data_sets.normal_form(data_sets.question_of(row)) for row in rows}
    }


def test_check_prompts_of_files_are_taken_out_of_every_training_set():
    made = [
        data_sets.made(f"{i}", "file", prompt=chat.to_prompt(f"Sum {i}?"), answer="1")
        for i in range(40)
    ]
    told = [
        data_sets.made(f"{i}", "file", messages=chat.to_messages(f"sum {i}", "1"))
        for i in range(40)
    ]
    sets = {"grpo_prompts": made, "sft_stage2": told}
    checks = data_sets.hold_out(sets, 0, [1, 1])
    assert len(checks) == 4  # a tenth
    assert [len(sets[name]) for name in ("grpo_prompts", "sft_stage2")] == [36, 36]
    assert asks(sets, map(data_sets.question_of, checks)) == set()


def test_check_prompts_of_a_mixture_of_nanoworld_are_never_trained_on():
    sets = {"grpo_prompts": data_sets.world_prompts("grpo", 200, 0, [1, 1, 1, 1, 2, 2])}
    checks = data_sets.hold_out(sets, 0, [1, 1])
    assert len(checks) == data_sets.CHECK_PROMPTS and len(sets["grpo_prompts"]) == 200
    assert all(nanoworld.is_held_out(data_sets.question_of(row)) for row in checks)


def test_gsm8k_looks_at_questions_that_no_set_trains_on(tmp_path):
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    rows = [{"question": f"What is {i} + 0?", "answer": f"{i}\n#### {i}"} for i in range(50)]
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "test.jsonl", [{"question": "Other?", "answer": "1\n#### 1"}])
    write_rows(folder / "model_solutions.jsonl", [{"question": "Other?"}])
    sets = gsm8k.data_sets_of(folder, dpo_prompts=5, grpo_prompts=10, seed=0)
    assert len(sets["check_prompts"]) == 5
    assert asks(sets, map(data_sets.question_of, sets["check_prompts"])) == set()
    assert [len(sets[n]) for n in ("sft_stage2", "grpo_prompts", "dpo_prompts")] == [45, 10, 5]
