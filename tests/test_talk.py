"""Talking to models of a run in a terminal."""

import io

import pytest

from trlm_utils import models
from trlm_utils.files import CourseError
from trlm_utils.generation import Sample
from trlm_utils.runner import command, talk


@pytest.fixture
def stages(tmp_path, model, tokenizer):
    for name in ("03_sft_stage2", "06_grpo"):
        models.save_model(model, tokenizer, tmp_path / name / "model")
    return tmp_path


def test_the_thought_is_dimmed_and_the_answer_is_not():
    said = Sample("<think> 2 + 2 = 4.</think> The answer is 4.", 12, True)
    assert talk.as_text(said, colour=True) == "\033[2m2 + 2 = 4.\033[0m\nThe answer is 4."
    assert talk.as_text(said, colour=False) == "2 + 2 = 4.\nThe answer is 4."


def test_a_reply_that_was_cut_off_says_so():
    text = talk.as_text(Sample("<think> 2 + 2", 4, False), colour=False)
    assert text == "2 + 2\n(cut off after 4 tokens: raise --max-new-tokens)"
    assert talk.as_text(Sample("", 1, True), colour=False) == "(nothing)"


def test_every_line_is_a_question_and_each_model_answers(stages, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        talk, "reply", lambda m, t, question, **_: asked.append(question) or Sample("4", 1, True)
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\nexit\nthree\n"))
    folders = [str(stages / name) for name in ("03_sft_stage2", "06_grpo")]
    assert command.main(["chat", *folders]) == 0
    assert asked == ["one", "one", "two", "two"]
    assert capsys.readouterr().out == "03_sft_stage2:\n4\n06_grpo:\n4\n" * 2


def test_a_question_that_is_too_long_costs_only_its_answer(stages, capsys):
    place = str(stages / "06_grpo" / "model")  # a model's own folder does as well
    talk.talk([place], budget=4, lines=["4 + " * 300, "3 + 4 ="])
    first, *rest = capsys.readouterr().out.split("\n")
    assert first.startswith("error: a prompt of") and rest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no model in nowhere"),
        (["tests"], "model folder .*: config.json is missing"),
        (["tests", "--temperature", "-1"], "--temperature is 0"),
        (["tests", "--max-new-tokens", "0"], "--max-new-tokens 1 or more"),
    ],
)
def test_a_wrong_request_gets_one_line(arguments, message, capsys):
    import re

    assert command.main(["chat", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CourseError, match="is missing"):
        talk.open_models([str(tmp_path)])
