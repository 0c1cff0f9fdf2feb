"""Rewards of one's own: found, checked in one line, and used like any other."""

import json

import pytest

from trlm_utils import chat
from trlm_utils.rewards import explorer, hack_bench, mixes, model_rewards, own, reward_models
from trlm_utils.runner import command
from trlm_utils.training import preflight

POLITE = """
def politeness(completions, *, soft=0.5, **columns):
    return [1.0 if "please" in c[-1]["content"] else soft for c in completions]
"""


@pytest.fixture
def file(tmp_path):
    """Writes a file of rewards; returns the name of one of them in a mix."""

    def write(source, function="reward", name="mine"):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return f"{path}:{function}"

    return write


def test_it_is_scored_beside_the_library(file):
    mix = {file(POLITE, "politeness"): 0.5, "accuracy": 1.0}
    rows = mixes.score(mix, ["please, 4", "4"], answer=["4", "4"])
    assert [row["politeness"] for row in rows] == [1.0, 0.5]
    assert [row["total"] for row in rows] == [1.5, 1.25]


def test_its_settings_stand_beside_the_weight(file):
    name = file(POLITE, "politeness")
    (row,) = mixes.score({name: {"weight": 2.0, "soft": -1.0}}, ["4"], answer=["4"])
    assert row["total"] == -2.0
    with pytest.raises(ValueError, match=r"has no setting \['hard'\]; it has: soft"):
        mixes.choose({name: {"weight": 2.0, "hard": 1.0}})


def test_two_of_one_name_are_logged_apart(file):
    names = [file(POLITE, "politeness", stem) for stem in ("a", "b")]
    functions, _ = mixes.choose(dict.fromkeys(names, 1.0))
    assert [f.__name__ for f in functions] == ["politeness", "politeness_2"]


def test_files_beside_the_mix_come_before_the_project(file, tmp_path):
    file(POLITE)
    found = own.beside({"mine.py:politeness": 1.0, "accuracy": 1.0, "no.py:f": 1.0}, tmp_path)
    assert list(found) == [str(tmp_path / "mine.py:politeness"), "accuracy", "no.py:f"]


def test_the_bench_and_the_explorer_know_it(file):
    name = file("def reward(completions, **columns):\n    return [1.0] * len(completions)")
    assert hack_bench.verdict("mine", hack_bench.totals({name: 1.0}, 2)).startswith("mine pays as")
    written = {"a": "4", "b": "5"}
    table = explorer.compare(written, {name: 1.0, "accuracy": 1.0}, answer="4")
    assert list(table["reward"]) == [1.0, 1.0] and list(table["total"]) == [2.0, 1.0]
    controls = explorer.Explorer(written, {name: 1.0}, answer="4")
    assert controls.weights == {name: {"weight": 1.0}}


def test_the_preflight_probes_with_it(file, model, tokenizer):
    name = file(POLITE, "politeness")
    rows = [{"id": "1", "prompt": chat.to_prompt("2 + 2?"), "answer": "4"}]
    found = preflight.probe_rewards(
        model, tokenizer, rows, {name: 1.0}, group_size=2, max_new_tokens=4
    )
    assert list(found.table["politeness"]) == [0.5, 0.5]


HEAD = "def reward(completions, **columns):\n    "


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def other(completions, **columns): pass", "has no function reward, only: other"),
        ("def reward(texts, **columns): pass", "its first argument is not `completions`"),
        ("def reward(completions, answer): pass", r"add \*\*columns to its arguments"),
        ("def reward(completions, **columns) pass", "line 1: expected ':'"),
        ("import no_such_module", "importing it failed: ModuleNotFoundError"),
        (HEAD + "return [0.0]", "returned 1 numbers for 2 completions"),
        (HEAD + "return 1.0", "returned float, not a list of numbers"),
        (HEAD + "return [float('nan')] * 2", "gave completion 0 nan, not a number"),
        (HEAD + "return ['0.5', '0.5']", "gave completion 0 '0.5', not a number"),
        (HEAD + "return [10**400] * 2", "not a number"),
        (HEAD + "return {0: 1.0, 1: 2.0}", "returned dict, not a list of numbers"),
        (HEAD + "raise SystemExit(3)", r"failed: SystemExit: 3 \(line 2\)"),
        ("raise SystemExit(3)", r"importing it failed: SystemExit: 3 \(line 1\)"),
        (HEAD + "return [1.0, 'good']", "gave completion 1 'good', not a number"),
        (HEAD + "return [c[0]['x'] for c in completions]", r"failed: KeyError: .* \(line 2\)"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(file, source, said):
    name = file(source)
    with pytest.raises(own.RewardError, match=said) as caught:
        mixes.choose({name: 1.0})
    assert "\n" not in str(caught.value) and "mine.py:reward" in str(caught.value)


def test_a_missing_file_is_refused_before_a_kernel_starts(capsys):
    mix = json.dumps({"no_such_file.py:f": 1.0})
    assert command.main(["show", "nano", "--set", f"06_grpo.REWARD_WEIGHTS={mix}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "06_grpo" in said
    assert "reward no_such_file.py:f: there is no file no_such_file.py" in said


def test_a_number_gone_wrong_in_training_names_the_completion(file):
    source = "def reward(completions, **columns):\n    return [1.0, 0.0, 1e400][: len(completions)]"
    (function,), _ = mixes.choose({file(source): 1.0})
    with pytest.raises(own.RewardError, match="gave completion 2 inf, not a number"):
        function(completions=["a", "b", "c"])


def test_a_file_may_hold_dataclasses(file):
    source = """
from __future__ import annotations
from dataclasses import dataclass


@dataclass
class Part:
    weight: float


def reward(completions, **columns):
    return [Part(2.0).weight] * len(completions)
"""
    (row,) = mixes.score({file(source): 1.0}, ["4"])
    assert row["total"] == 2.0


@pytest.mark.parametrize("own_first", [True, False])
def test_the_library_keeps_its_names(file, own_first):
    own_name = file(
        HEAD.replace("reward", "accuracy") + "return [0.0] * len(completions)", "accuracy"
    )
    names = [own_name, "accuracy"] if own_first else ["accuracy", own_name]
    functions, _ = mixes.choose(dict.fromkeys(names, 1.0))
    found = {name: f.__name__ for name, f in zip(names, functions, strict=True)}
    assert found == {own_name: "accuracy_2", "accuracy": "accuracy"}


def test_a_number_behind_a_name_is_not_given_twice(file):
    names = [
        file(HEAD.replace("reward", called) + "return [0.0] * len(completions)", called, stem)
        for stem, called in (("a", "f"), ("b", "f_2"), ("c", "f"))
    ]
    functions, _ = mixes.choose(dict.fromkeys(names, 1.0))
    assert [f.__name__ for f in functions] == ["f", "f_2", "f_3"]


def test_a_reward_called_total_does_not_replace_the_sum(file):
    name = file(HEAD.replace("reward", "total") + "return [5.0] * len(completions)", "total")
    (row,) = mixes.score({"accuracy": 1.0, name: 0.5}, ["4"], answer=["4"])
    assert row == {"accuracy": 1.0, "total_2": 5.0, "total": 3.5}


@pytest.mark.parametrize("value", [float("nan"), "a", True])
def test_settings_of_ones_own_are_numbers_where_their_defaults_are(file, value):
    name = file(POLITE, "politeness")
    with pytest.raises(ValueError, match="soft of .*, not a number"):
        mixes.choose({name: {"weight": 1.0, "soft": value}})


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (["accuracy"], "a mix is a table of rewards and weights, not list"),
        (None, "a mix is a table of rewards and weights, not NoneType"),
        ({1: 1.0, "nope": 1.0}, r"unknown reward \[1, 'nope'\]"),
        ({"accuracy": 10**400}, "weight of accuracy is 1000.*, not a finite number"),
        ({"tina": 10**400}, "weight of tina is 1000.*, not a finite number"),
        ({"accuracy": {"weight": 1.0, 1: 2, "x": 1}}, r"accuracy has no setting \[1, 'x'\]"),
    ],
)
def test_what_is_no_mix_is_said_in_one_line(mix, said):
    with pytest.raises(ValueError, match=said):
        mixes.choose(mix)


def test_a_very_bad_reply_has_a_learned_reward(monkeypatch):
    monkeypatch.setattr(reward_models, "outcome_scores", lambda *_: [-1000.0, 0.0, 1000.0])
    monkeypatch.setattr(chat, "render", lambda *_: "")
    asked = model_rewards.Models(tokenizer=object(), judge=object())
    assert model_rewards.learned(["a"] * 3, [[]] * 3, models=asked) == [0.0, 0.5, 1.0]
