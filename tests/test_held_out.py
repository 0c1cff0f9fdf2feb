"""Evaluation through lm-eval: think-aware scoring, records, ladder, comparisons."""

import pytest

from trlm_utils import generation
from trlm_utils.evaluation import held_out
from trlm_utils.evaluation.tasks.scoring import score_document, score_text
from trlm_utils.files import write_rows
from trlm_utils.tokenization import END

QUESTIONS = [
    {"id": f"q{i}", "band": band, "question": f"Compute {i}.", "answer": str(i)}
    for i, band in enumerate(("a", "a", "b"))
]


@pytest.mark.parametrize(
    ("text", "accuracy", "truncated", "well_formed"),
    [
        (f"<think> x</think> The answer is 4.{END}", 1, 0, 1),
        (f"<think> The answer is 4.{END}", 0, 1, 0),
        ("<think> The answer is 4.", 0, 1, 0),
        ("<think> x</think> The answer is 4", 1, 1, 1),
        (f"<think> x</think> The answer is 4.{END} The answer is 5.", 1, 0, 1),
        (f"The answer is 4.{END}", 1, 0, 0),
    ],
    ids=[
        "whole",
        "unclosed but ended",
        "cut in thought",
        "cut after it",
        "text behind the end",
        "no thought",
    ],
)
def test_scoring_is_think_aware(text, accuracy, truncated, well_formed):
    expected = {"accuracy": accuracy, "truncated": truncated, "well_formed": well_formed}
    assert score_text(text, "4") == expected


def test_a_question_scores_the_mean_of_its_samples():
    texts = [f"The answer is {i}.{END}" for i in (4, 4, 4, 5)]
    assert score_document({"answer": "4"}, [texts])["accuracy"] == 0.75


@pytest.fixture
def answers_given(monkeypatch):
    """Replace the model: question i is answered i when greedy, and 0 when sampled."""

    def sample(model, tokenizer, prompts, *, temperature, **kwargs):
        digits = ["".join(c for c in p if c.isdigit()) for p in prompts]
        texts = [d if temperature == 0 else "0" for d in digits]
        return [generation.Sample(f"The answer is {t}.", 7, True) for t in texts]

    monkeypatch.setattr(generation, "sample", sample)


def test_lm_eval_asks_every_question_in_both_decodings(tokenizer, tmp_path, answers_given):
    write_rows(tmp_path / "q.jsonl", QUESTIONS)
    records = held_out.evaluate(None, tokenizer, tmp_path / "q.jsonl", samples=3)
    found = {(r["id"], r["decoding"]): r for r in records}
    assert len(records) == len(found) == 6
    assert [found[f"q{i}", "greedy"]["accuracy"] for i in range(3)] == [1, 1, 1]
    assert [found[f"q{i}", "sampled"]["accuracy"] for i in range(3)] == [1, 0, 0]
    assert len(found["q0", "sampled"]["texts"]) == 3
    assert found["q1", "greedy"]["texts"] == ["The answer is 1."]
    assert found["q0", "greedy"]["tokens"] == 7


def test_the_prompt_is_the_rendered_question(tokenizer, tmp_path, monkeypatch):
    seen = []

    def sample(model, tokenizer, prompts, **kwargs):
        seen.extend(prompts)
        return [generation.Sample("", 1, True)] * len(prompts)

    monkeypatch.setattr(generation, "sample", sample)
    write_rows(tmp_path / "q.jsonl", QUESTIONS[:1])
    held_out.evaluate(None, tokenizer, tmp_path / "q.jsonl", decodings=["greedy"], system="Think.")
    assert seen == [
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\nCompute 0.<|im_end|>\n"
        "<|im_start|>assistant\n"
    ]


def record(key, band, accuracy, decoding="greedy"):
    numbers = {"accuracy": accuracy, "truncated": 0, "well_formed": 1, "tokens": 5}
    return {"id": key, "band": band, "decoding": decoding, "texts": ["x"], **numbers}


def test_ladder_has_a_row_per_band_and_decoding():
    records = [record("1", "a", 1), record("2", "a", 0), record("3", "b", 1, "sampled")]
    rows = held_out.ladder_rows(records, "s", 7)
    assert [(r["band"], r["decoding"], r["accuracy"], r["n"]) for r in rows] == [
        ("a", "greedy", 0.5, 2),
        ("b", "sampled", 1.0, 1),
    ]
    assert all(r["low"] <= r["accuracy"] <= r["high"] and r["seed"] == 7 for r in rows)


def test_comparison_pairs_by_question_whatever_the_order():
    before = [record("1", "a", 0), record("2", "a", 1)]
    after = [record("2", "a", 1), record("1", "a", 1)]
    (row,) = held_out.compare(before, after, ("s", "t"))
    assert row["difference"] == 0.5


def test_comparing_different_questions_is_refused():
    with pytest.raises(ValueError, match="different questions"):
        held_out.compare([record("1", "a", 0)], [record("2", "a", 0)], ("s", "t"))


def test_right_completions_are_counted_per_question(tokenizer, answers_given):
    """Sampled, question i is answered 0 each time: only question 0 is right."""
    counts = held_out.count_right(None, tokenizer, QUESTIONS, samples=4)
    assert [(c["id"], c["band"], c["samples"], c["right"]) for c in counts] == [
        ("q0", "a", 4, 4),
        ("q1", "a", 4, 0),
        ("q2", "b", 4, 0),
    ]


def test_pass_curve_averages_over_questions():
    counts = [{"id": str(r), "band": "a", "samples": 4, "right": r} for r in (0, 1)]
    rows = held_out.pass_curve(counts, "06_grpo")
    assert [(r["k"], r["pass_at_k"]) for r in rows] == [(1, 1 / 8), (2, 1 / 4), (4, 1 / 2)]
    assert all(r["stage"] == "06_grpo" and r["n"] == 2 for r in rows)


def test_accuracy_by_steps_takes_greedy_answers_of_bands_told_alike():
    questions = [{"id": i, "difficulty": d} for i, d in enumerate((1, 3, 3, 3, None))]
    records = [
        {"id": i, "band": band, "decoding": decoding, "accuracy": score}
        for i, band, decoding, score in (
            (0, "in_distribution", "greedy", 1.0),
            (1, "in_distribution", "greedy", 1.0),
            (1, "in_distribution", "sampled", 0.0),  # not greedy
            (2, "longer", "greedy", 0.0),
            (3, "new_phrasing", "greedy", 0.0),  # differs in more than length
            (4, "longer", "greedy", 0.0),  # length not known
        )
    ]
    rows = held_out.by_steps(records, questions, "s", 7)
    found = [(r["steps"], r["accuracy"], r["n"]) for r in rows]
    assert found == [(1, 1.0, 1), (3, 0.5, 2)]
    assert {(r["stage"], r["seed"]) for r in rows} == {("s", 7)}
