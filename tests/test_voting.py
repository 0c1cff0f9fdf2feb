"""Self-consistency and best-of-N on samples written by hand."""

from trlm_utils import answers
from trlm_utils.evaluation import voting


def said(answer):
    return f"<think> x</think> The answer is {answer}."


def record(*given, gold="4"):
    names = {"id": "q", "band": "a", "form": "chat", "decoding": "sampled", "gold": gold}
    right = sum(a == gold for a in given) / len(given)
    return {**names, "texts": [said(a) for a in given], "tokens": 10.0, "accuracy": right}


def test_the_same_number_in_another_form_is_the_same_answer():
    assert answers.answer_key(said("4")) == answers.answer_key(said("4.0")) == 4.0
    assert answers.answer_key(said("Ana")) == answers.answer_key("The answer is ana.")
    assert answers.answer_key("<think> never closed") is None


def test_the_most_frequent_answer_wins_and_the_first_among_equals():
    assert answers.elected([said("5"), said("4"), said("4")]) == said("4")
    assert answers.elected([said("5"), said("4"), said("4"), said("5")]) == said("5")
    assert answers.elected(["<think> no end", said("7")]) == said("7")
    assert answers.elected(["<think> no end"]) is None


def test_accuracy_by_vote_and_by_best_by_hand():
    """Votes of four: 4 wins. Pairs: (5, 4) elects 5, (4, 4) elects 4: half. Singles: 3 of 4."""
    rows = voting.curves([record("5", "4", "4", "4")], "s")
    found = {(r["method"], r["k"]): r["accuracy"] for r in rows}
    assert found == {
        ("vote", 1): 0.75,
        ("best", 1): 0.75,
        ("vote", 2): 0.5,
        ("best", 2): 1.0,
        ("vote", 4): 1.0,
        ("best", 4): 1.0,
    }
    assert {r["k"]: r["tokens"] for r in rows} == {1: 10.0, 2: 20.0, 4: 40.0}


def test_a_wrong_majority_loses_where_the_best_would_win():
    rows = voting.curves([record("5", "5", "5", "4")], "s")
    last = {r["method"]: r["accuracy"] for r in rows if r["k"] == 4}
    assert last == {"vote": 0.0, "best": 1.0}


def test_greedy_and_plain_answers_do_not_vote():
    others = [record("4", "4") | {"decoding": "greedy"}, record("4", "4") | {"form": "plain"}]
    assert voting.curves(others, "s") == []
