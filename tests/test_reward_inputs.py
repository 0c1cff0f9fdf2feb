"""Rewards on input that nobody meant: odd completions, missing columns, very long replies."""

import time

import pytest

from trlm_utils.rewards import library

GOOD = "<think> 2 and 2: 4.</think> The answer is 4."
LONG = 10**5  # characters
# the checker has tests of its own; models have a context that bounds a reply
ON_TEXT = [
    "think_format",
    "think_answer_format",
    "reasoning_answer_format",
    "boxed_format",
    "tag_count",
    "reasoning_steps",
    "repetition",
    "brevity",
    "length_exact",
]


def message(**fields):
    return [{"role": "assistant", **fields}]


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ([], ""),
        (message(tool_calls=[]), ""),
        (message(content=None), ""),
        (message(content=[{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]), "a b"),
        (message(content=[{"type": "image"}, {"type": "text", "text": "b"}]), "b"),
    ],
)
def test_messages_without_plain_content_have_a_text(completion, text):
    assert library.texts_of([completion]) == [text]


@pytest.mark.parametrize(("bad", "kind"), [(None, "NoneType"), (b"4", "bytes"), (["4"], "list")])
def test_what_is_no_completion_is_named(bad, kind):
    message = f"completion 1 is {kind}, not a text or a list of messages"
    with pytest.raises(ValueError, match=message):
        library.brevity(["4", bad])


@pytest.mark.parametrize("name", ["accuracy", "length_in_group", "length_max", "cosine"])
def test_too_few_answers_are_said(name):
    with pytest.raises(ValueError, match="answer is 1 values for 2 completions: give one each"):
        getattr(library, name)([GOOD, GOOD], prompts=["p"] * 2, answer=["4"])


def test_one_text_is_no_column_of_answers():
    """Else each character of it would be the answer of a completion."""
    with pytest.raises(ValueError, match="answer is a text for 2 completions"):
        library.accuracy([GOOD, GOOD], answer="44")


@pytest.mark.parametrize("name", ["ngram_repetition", "length_exact", "overlong"])
def test_too_few_lists_of_ids_are_said(name):
    with pytest.raises(ValueError, match="completion_ids is 1 values for 2 completions"):
        getattr(library, name)([GOOD, GOOD], completion_ids=[[1]])


def test_a_margin_above_the_length_is_refused():
    """With 10 tokens and a margin of 20 an empty reply would be punished by half."""
    with pytest.raises(ValueError, match="margin of overlong is 20, above its max_length 10"):
        library.overlong([""], max_length=10, margin=20)
    assert library.overlong([""], max_length=10, margin=10) == [0.0]


@pytest.mark.parametrize(
    "text",
    [
        "\n" * LONG,
        "\n " * (LONG // 2),
        " " * LONG,
        "<think>" * (LONG // 7),
        "<think>a</think>" * (LONG // 16),
        "<answer>" * (LONG // 8),
        r"\boxed{" * (LONG // 7),
        "a. " * (LONG // 3),
        "\U0001f600" * (LONG // 4),
    ],
    ids=["lines", "blank lines", "blanks", "open", "pairs", "answers", "boxes", "dots", "emoji"],
)
@pytest.mark.parametrize("name", ON_TEXT)
def test_a_very_long_reply_is_scored_soon(name, text):
    began = time.perf_counter()
    (found,) = getattr(library, name)([text])
    assert -1.0 <= found <= 1.0
    assert time.perf_counter() - began < 2.0  # the square of the length took minutes


def test_marks_of_steps_after_empty_lines_count_once_each():
    assert library.reasoning_steps(["\n\n  Step 1: a\n \n\t- b"], enough=4) == [0.5]
