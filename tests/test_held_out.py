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
    assert len(records) == len(found) == 6 and {r["form"] for r in records} == {"chat"}
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


def test_in_plain_form_the_bare_question_is_continued(tokenizer, tmp_path, monkeypatch):
    """Greedily once and as often as asked for; a form is about a thought, so not counted."""
    seen = []

    def sample(model, tokenizer, prompts, *, temperature, **kwargs):
        seen.append((prompts[0], temperature, len(prompts)))
        return [generation.Sample("0 + 0 = 0. The answer is 0.", 1, True)] * len(prompts)

    monkeypatch.setattr(generation, "sample", sample)
    write_rows(tmp_path / "q.jsonl", QUESTIONS[:1])
    how = {"samples": 1, "plain_samples": 2, "system": "Think."}
    records = held_out.evaluate(None, tokenizer, tmp_path / "q.jsonl", **how)
    assert seen[2:] == [("Compute 0.", 0.0, 1), ("Compute 0.", 1.0, 2)]
    plain = [r for r in records if r["form"] == "plain"]
    assert [(r["accuracy"], r["well_formed"], len(r["texts"])) for r in plain] == [
        (1.0, None, 1),
        (1.0, None, 2),
    ]


WORKED = ["May brings 2: 3 + 2 = 5", "June takes 1: 5 - 1 = 4"]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("<think> May brings 2: 3 + 2 = 5. June takes 1: 5 - 1 = 4.</think> The answer is 4.", 1),
        ("May brings 2: 3 + 2 = 5. June takes 1: 5 - 1 = 4. The answer is 4.", 1),
        ("<think> June takes 1: 5 - 1 = 4.</think> The answer is 4.", 0),
        ("<think> May brings 2: 3 + 2 = 6. June takes 1: 5 - 1 = 4.</think> The answer is 4.", 0),
        ("<think> May brings 2: 3 + 2 = 5. June takes 1: 5 - 1 = 4.</think> The answer is 5.", 0),
        ("<think> This is easy.</think> The answer is 4.", 0),
        ("The answer is 4.", 0),
    ],
    ids=["thought", "plain", "step left out", "wrong step", "wrong answer", "guess", "direct"],
)
def test_checked_counts_an_answer_only_with_every_step(text, share):
    assert held_out.checked([text], "4", WORKED) == share


def test_repeating_the_work_is_no_wrong_step():
    work = "May brings 2: 3 + 2 = 5. June takes 1: 5 - 1 = 4."
    text = f"<think> {work} Let me check. {work}</think> The answer is 4."
    assert held_out.checked([text, "The answer is 4."], "4", WORKED) == 0.5


def test_without_known_steps_nothing_is_checked():
    assert held_out.checked(["The answer is 4."], "4", None) is None


def test_right_completions_are_counted_per_question(tokenizer, answers_given):
    """Sampled, question i is answered 0 each time: only question 0 is right."""
    counts = held_out.count_right(None, tokenizer, QUESTIONS, samples=4)
    assert [(c["id"], c["band"], c["samples"], c["right"]) for c in counts] == [
        ("q0", "a", 4, 4),
        ("q1", "a", 4, 0),
        ("q2", "b", 4, 0),
    ]
