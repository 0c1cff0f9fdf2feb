"""Tables of an evaluation: forms, the ladder, differences, pass@k, accuracy by steps."""

import pytest

from trlm_utils.evaluation import ladder


def record(key, band, accuracy, decoding="greedy", form="chat", checked=None):
    numbers = {"accuracy": accuracy, "truncated": 0, "well_formed": 1, "tokens": 5}
    return {
        "id": key,
        "band": band,
        "decoding": decoding,
        "form": form,
        "checked": checked,
        "texts": ["x"],
        **numbers,
    }


def test_ladder_has_a_row_per_band_and_decoding():
    records = [record("1", "a", 1), record("2", "a", 0), record("3", "b", 1, "sampled")]
    rows = ladder.ladder_rows(records, "s", 7)
    assert [(r["band"], r["decoding"], r["accuracy"], r["n"]) for r in rows] == [
        ("a", "greedy", 0.5, 2),
        ("b", "sampled", 1.0, 1),
    ]
    assert all(r["low"] <= r["accuracy"] <= r["high"] and r["seed"] == 7 for r in rows)


def test_forms_have_rows_of_their_own_and_checked_is_a_mean_of_what_is_known():
    records = [record("1", "a", 1, checked=1.0), record("2", "a", 1, checked=0.0)]
    records += [record("1", "a", 0, form="plain"), record("2", "a", 0, form="plain")]
    rows = ladder.ladder_rows(records, "s", 0)
    assert [(r["form"], r["accuracy"], r["checked"]) for r in rows] == [
        ("chat", 1.0, 0.5),
        ("plain", 0.0, None),
    ]


def test_the_base_model_stands_in_the_form_in_which_it_is_best():
    """Per band: plain is better in a, chat in b. Two of two right later."""
    base = [record(i, "a", 0) for i in "12"] + [record(i, "a", 1, form="plain") for i in "1"]
    base += [record("2", "a", 0, form="plain"), record("3", "b", 1), record("4", "b", 1)]
    base += [record(i, "b", 0, form="plain") for i in "34"]
    later = [record(i, band, 1) for i, band in zip("1234", "aabb", strict=True)]
    later += [record(i, "a", 0, form="plain") for i in "12"]
    best = ladder.best_forms([base])
    assert best == {("a", "greedy"): "plain", ("b", "greedy"): "chat"}
    rows = ladder.over_base(base, later, ("base", "later"), best)
    found = [(r["band"], r["from_form"], r["form"], r["difference"]) for r in rows]
    assert found == [("a", "plain", "chat", 0.5), ("b", "chat", "chat", 0.0)]


def test_the_best_form_is_that_of_all_seeds_together():
    """Plain is best in seed 0 by one question, chat in seed 1 by two."""
    first = [record("1", "a", 0), record("1", "a", 1, form="plain"), record("2", "a", 0)]
    first += [record("2", "a", 0, form="plain")]
    second = [record(i, "a", 1) for i in "12"] + [record(i, "a", 0, form="plain") for i in "12"]
    assert ladder.best_forms([first, second]) == {("a", "greedy"): "chat"}


def test_comparison_pairs_by_question_whatever_the_order():
    before = [record("1", "a", 0), record("2", "a", 1)]
    after = [record("2", "a", 1), record("1", "a", 1)]
    (row,) = ladder.compare(before, after, ("s", "t"))
    assert row["difference"] == 0.5


def test_comparing_different_questions_is_refused():
    with pytest.raises(ValueError, match="different questions"):
        ladder.compare([record("1", "a", 0)], [record("2", "a", 0)], ("s", "t"))


def test_pass_curve_averages_over_questions():
    counts = [{"id": str(r), "band": "a", "samples": 4, "right": r} for r in (0, 1)]
    rows = ladder.pass_curve(counts, "06_grpo")
    assert {r["counted"] for r in rows} == {"right"}
    assert [(r["k"], r["pass_at_k"]) for r in rows] == [(1, 1 / 8), (2, 1 / 4), (4, 1 / 2)]
    assert all(r["stage"] == "06_grpo" and r["n"] == 2 for r in rows)


def test_pass_curve_counts_what_is_right_in_every_step_beside():
    counts = [{"id": "1", "band": "a", "samples": 2, "right": 2, "checked": 1}]
    rows = ladder.pass_curve(counts, "06_grpo")
    found = [(r["counted"], r["k"], r["pass_at_k"]) for r in rows]
    assert found == [("right", 1, 1), ("right", 2, 1), ("checked", 1, 0.5), ("checked", 2, 1)]


def test_accuracy_by_steps_takes_bands_told_alike():
    questions = [{"id": i, "difficulty": d} for i, d in enumerate((1, 3, 3, 3, None))]
    records = [
        {"id": i, "band": band, "decoding": decoding, "accuracy": score, "texts": ["x"]}
        for i, band, decoding, score in (
            (0, "in_distribution", "greedy", 1.0),
            (1, "in_distribution", "greedy", 1.0),
            (1, "in_distribution", "sampled", 0.0),
            (2, "longer", "greedy", 0.0),
            (3, "new_phrasing", "greedy", 0.0),  # differs in more than length
            (4, "longer", "greedy", 0.0),  # length not known
        )
    ]
    rows = ladder.by_steps(records, questions, "s", 7)
    found = [(r["decoding"], r["steps"], r["accuracy"], r["n"]) for r in rows]
    assert found == [("greedy", 1, 1.0, 1), ("greedy", 3, 0.5, 2), ("sampled", 3, 0.0, 1)]
    assert {(r["stage"], r["seed"]) for r in rows} == {("s", 7)}
