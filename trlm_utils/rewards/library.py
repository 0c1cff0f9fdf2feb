"""Reward functions with TRL's signature: completions in, one float (or None) each out.

Every function takes plain strings or conversational completions, and the columns of
the data set as keyword arguments. ``None`` means "does not apply to this row"; TRL
leaves such rows out of that reward. Lengths are in tokens if TRL passes
``completion_ids``, else in words. Keyword-only arguments are settings, which a recipe may
set together with the weight (`trlm_utils.rewards.mixes`).

    >>> accuracy(["<think> 2 + 2: 4.</think> The answer is 4."], answer=["4"])
    [1.0]
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from trlm_utils import answers

Completions = Sequence[str] | Sequence[list[dict[str, str]]]
Reward = Callable[..., list[float | None]]


def texts_of(completions: Completions) -> list[str]:
    """The reply texts, whether completions are strings or message lists.

    A message without content (no reply, or a tool call) gives an empty text. If the content
    is a list of parts, their texts are joined.

    Raises:
        ValueError: for a completion that is neither.
    """
    return [c if isinstance(c, str) else _content(c, i) for i, c in enumerate(completions)]


def _content(messages: Any, place: int) -> str:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        kind = type(messages).__name__
        raise ValueError(f"completion {place} is {kind}, not a text or a list of messages")
    content = (messages[-1].get("content") if messages else None) or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def token_lists(completions: Completions, completion_ids: Any = None) -> list[list[Any]]:
    """The token ids of each completion; without ids, its words.

    Raises:
        ValueError: when there are not as many lists of ids as completions.
    """
    if completion_ids is not None:
        _check_column("completion_ids", completion_ids, completions)
        return [list(ids) for ids in completion_ids]
    return [text.split() for text in texts_of(completions)]


def _check_column(name: str, column: Any, completions: Completions) -> None:
    if isinstance(column, str) or len(column) != len(completions):
        held = "a text" if isinstance(column, str) else f"{len(column)} values"
        raise ValueError(f"{name} is {held} for {len(completions)} completions: give one each")


# --- the answer -------------------------------------------------------------------


def accuracy(
    completions: Completions, answer: Sequence[str], *, prefilled: bool = False, **_: Any
) -> list[float | None]:
    """1.0 when the text after the thought states the gold answer, else 0.0.

    None where the gold answer is empty or cannot be read. Differs from TRL's
    ``accuracy_reward``, which grades the whole completion, thought included, and
    accepts only boxed or anchored answers.

    Args:
        prefilled: the prompt already ends in ``<think>``.

    Raises:
        ValueError: when there are not as many answers as completions.

    >>> accuracy(["<think> 2 + 2: 4.</think> The answer is 4.", "4?", "x"], ["4", "5", ""])
    [1.0, 0.0, None]
    """
    _check_column("answer", answer, completions)
    return [
        None if (verdict := answers.grade(text, gold, prefilled)) is None else float(verdict)
        for text, gold in zip(texts_of(completions), answer, strict=True)
    ]


# --- format -----------------------------------------------------------------------


def think_format(completions: Completions, *, prefilled: bool = False, **_: Any) -> list[float]:
    """1.0 for exactly one non-empty thought followed by a non-empty answer, else 0.0.

    TRL's ``think_format_reward`` differs: it accepts an empty thought and a second
    ``</think>``.

    >>> think_format(["<think> 2 + 2: 4.</think> 4", "<think></think> 4", "4"])
    [1.0, 0.0, 0.0]
    """
    return [
        float((prefilled or answers.OPEN in text) and answers.parse(text, prefilled).well_formed)
        for text in texts_of(completions)
    ]


def think_answer_format(
    completions: Completions, *, prefilled: bool = False, **_: Any
) -> list[float]:
    """1.0 for ``<think>...</think><answer>...</answer>`` and nothing else, else 0.0.

    The format of DeepSeek-R1 (Guo et al. 2025). Neither part may be empty.

    >>> think_answer_format(["<think> 2 + 2: 4.</think> <answer>4</answer>"])
    [1.0]
    """
    return [_in_two_parts(text, "think", prefilled) for text in texts_of(completions)]


def reasoning_answer_format(
    completions: Completions, *, prefilled: bool = False, **_: Any
) -> list[float]:
    """1.0 for ``<reasoning>...</reasoning><answer>...</answer>`` and nothing else, else 0.0.

    >>> reasoning_answer_format(["<reasoning>2 + 2: 4.</reasoning><answer></answer>"])
    [0.0]
    """
    return [_in_two_parts(text, "reasoning", prefilled) for text in texts_of(completions)]


def _in_two_parts(text: str, tag: str, prefilled: bool) -> float:
    if prefilled and f"<{tag}>" not in text:
        text = f"<{tag}>{text}"
    form = rf"\s*<{tag}>(.*)</{tag}>\s*<answer>(.*)</answer>\s*"
    found = re.fullmatch(form, text, re.DOTALL)
    if not found or any(
        re.search(r"</?(?:think|reasoning|answer)>", part) for part in found.groups()
    ):
        return 0.0
    return float(all(re.search(r"\w", part) for part in found.groups()))


def boxed_format(completions: Completions, *, prefilled: bool = False, **_: Any) -> list[float]:
    r"""1.0 when the text after the thought holds exactly one non-empty ``\boxed{}``, else 0.0.

    >>> boxed_format([r"<think> 2 + 2.</think> \boxed{4}", r"<think> \boxed{4}"])
    [1.0, 0.0]
    """
    scores = []
    for text in texts_of(completions):
        after = answers.parse(text, prefilled).answer
        content = answers.last_boxed(after) if answers.count_boxes(after) == 1 else None
        scores.append(float(bool(content and content.strip())))
    return scores


def tag_count(
    completions: Completions, *, tags: Sequence[str] = (answers.OPEN, answers.CLOSE), **_: Any
) -> list[float]:
    """Share of the tags that occur exactly once, in [0, 1]: a partial-credit format reward.

    After open-r1's ``tag_count_reward``. It ignores the order of the tags, so combine it
    with a strict format reward.

    >>> tag_count(["<think> so: 4.</think> 4", "<think> so: 4. 4", "4"])
    [1.0, 0.5, 0.0]
    """
    return [sum(text.count(tag) == 1 for tag in tags) / len(tags) for text in texts_of(completions)]


_STEP_MARK = re.compile(
    # blanks without line breaks; otherwise the time is quadratic in the number of empty lines
    r"(?:^|\n)[^\S\n]*(?:step \d+|\d+[.)]\s|[-*]\s)|\b(?:first|second|third|next|then|finally),",
    re.IGNORECASE,
)


def reasoning_steps(completions: Completions, *, enough: int = 3, **_: Any) -> list[float]:
    """Step markers ("Step 1", "2.", "- ", "First,") divided by ``enough``, in [0, 1].

    After open-r1's ``reasoning_steps_reward``. It counts words, not reasoning steps, so it
    is easy to game (`trlm_utils.rewards.hack_bench`).

    >>> reasoning_steps(["First, 2. Then, 4. Finally, 6.", "6"])
    [1.0, 0.0]
    """
    return [min(1.0, len(_STEP_MARK.findall(text)) / enough) for text in texts_of(completions)]


# --- repetition -------------------------------------------------------------------


_SENTENCE = re.compile(r"[.!?;](?=\s|$)|\n")


def repetition(completions: Completions, *, prefilled: bool = False, **_: Any) -> list[float]:
    """Minus the share of sentences in the thought that are repetitions, in [-1, 0].

    It compares sentences, because with a small vocabulary token n-grams repeat for good
    reasons ("12 + 5" occurs in two steps). A sentence ends at a full stop, another mark or a
    line break. Differences in spacing, capitals and emphasis are ignored.

    >>> repetition(["<think> 2 + 2: 4. 2 + 2: 4!</think> 4"])
    [-0.5]
    """
    scores = []
    for text in texts_of(completions):
        thought = answers.parse(text, prefilled).thought or ""
        parts = (" ".join(s.split()).strip("*_#> ").lower() for s in _SENTENCE.split(thought))
        sentences = [s for s in parts if s]
        repeated = len(sentences) - len(set(sentences))
        scores.append(-repeated / len(sentences) if sentences else 0.0)
    return scores


def ngram_repetition(
    completions: Completions,
    *,
    completion_ids: Any = None,
    size: int = 3,
    penalty: float = 1.0,
    **_: Any,
) -> list[float]:
    """Minus the share of token n-grams that occurred before, in [-penalty, 0].

    ``-penalty (1 - unique / all)`` over n-grams of ``size`` tokens (Yeo et al. 2025, appendix
    C.2), computed by TRL's ``get_repetition_penalty_reward``.

    >>> ngram_repetition(["a b a b a b"], size=2)
    [-0.6]
    """
    from trl.rewards import get_repetition_penalty_reward

    lists = token_lists(completions, completion_ids)
    return get_repetition_penalty_reward(size, -penalty)(completion_ids=lists)


# --- length -----------------------------------------------------------------------


def brevity(completions: Completions, **_: Any) -> list[float]:
    """Minus the number of words divided by 100, in [-1, 0]: the simplest length penalty.

    Notebook 13 shows how a policy games it when its weight is large.

    >>> brevity(["one two three four", "w " * 300])
    [-0.04, -1.0]
    """
    return [-min(1.0, len(text.split()) / 100) for text in texts_of(completions)]


def length_in_group(
    completions: Completions,
    answer: Sequence[str],
    *,
    completion_ids: Any = None,
    prompts: Any = None,
    prefilled: bool = False,
    **_: Any,
) -> list[float | None]:
    """Length relative to the group, in [-0.5, 0.5] (Kimi k1.5, Team Kimi 2025, 2.3.3).

    ``0.5 - (length - shortest) / (longest - shortest)`` for correct completions; for wrong
    ones the same, but at most 0; 0 if all lengths of the group are equal. Consecutive
    completions with the same prompt are a group; without prompts, all completions are.

    >>> length_in_group(["so so so it is 4", "it is 4", "is 5"], ["4", "4", "4"])
    [-0.5, 0.25, 0.0]
    """
    lengths = list(map(len, token_lists(completions, completion_ids)))
    right = accuracy(completions, answer, prefilled=prefilled)
    keys = [""] * len(lengths) if prompts is None else [str(prompt) for prompt in prompts]
    scores: list[float | None] = []
    for _key, members in groupby(range(len(lengths)), key=keys.__getitem__):
        group = list(members)
        shortest = min(lengths[i] for i in group)
        width = max(lengths[i] for i in group) - shortest
        for i in group:
            share = 0.5 - (lengths[i] - shortest) / width if width else 0.0
            verdict = right[i]
            scores.append(None if verdict is None else share if verdict else min(0.0, share))
    return scores


def length_exact(
    completions: Completions,
    *,
    completion_ids: Any = None,
    target: int = 64,
    slope: float = 0.003,
    **_: Any,
) -> list[float]:
    """``-slope * |target - length|``, in [-1, 0]: the length term of L1-Exact.

    Aggarwal and Welleck 2025 add it to the accuracy, read the target from each prompt and
    use a slope of 0.0003 for completions of thousands of tokens. The bound -1 is ours.

    >>> length_exact(["a b c d"], target=14, slope=0.01)
    [-0.1]
    """
    lengths = map(len, token_lists(completions, completion_ids))
    return [-min(1.0, slope * abs(target - length)) for length in lengths]


def length_max(
    completions: Completions,
    answer: Sequence[str],
    *,
    completion_ids: Any = None,
    target: int = 64,
    slope: float = 0.003,
    offset: float = 0.5,
    prefilled: bool = False,
    **_: Any,
) -> list[float | None]:
    """Correct and not much longer than a target: L1-Max (Aggarwal and Welleck 2025), in [0, 1].

    ``right * clip(slope * (target - length) + offset, 0, 1)``, where ``right`` is the
    `accuracy`. So do not add the accuracy to it; at most a format reward.

    >>> length_max(["it is 4", "it is 5"], ["4", "4"], target=13, slope=0.01)
    [0.6, 0.0]
    """
    lengths = map(len, token_lists(completions, completion_ids))
    return [
        None if right is None else right * min(1.0, max(0.0, slope * (target - n) + offset))
        for right, n in zip(
            accuracy(completions, answer, prefilled=prefilled), lengths, strict=True
        )
    ]


def overlong(
    completions: Completions,
    *,
    completion_ids: Any = None,
    max_length: int = 160,
    margin: int = 32,
    **_: Any,
) -> list[float]:
    """Penalty in [-1, 0] that grows over the last ``margin`` tokens before ``max_length``.

    DAPO's soft overlong punishment (Yu et al. 2025, eq. 13): 0 for shorter completions.
    Computed by TRL's ``get_soft_overlong_punishment``.

    Raises:
        ValueError: for a margin above ``max_length``, which would punish empty replies.

    >>> overlong(["w " * 90], max_length=100, margin=20)
    [-0.5]
    """
    from trl.rewards import get_soft_overlong_punishment

    if margin > max_length:
        raise ValueError(f"margin of overlong is {margin}, above its max_length {max_length}")
    lists = token_lists(completions, completion_ids)
    return [
        float(r) for r in get_soft_overlong_punishment(max_length, margin)(completion_ids=lists)
    ]


def cosine(
    completions: Completions,
    answer: Sequence[str],
    *,
    completion_ids: Any = None,
    max_length: int = 160,
    right: Sequence[float] = (1.0, 0.5),
    wrong: Sequence[float] = (-1.0, -0.5),
    prefilled: bool = False,
    **_: Any,
) -> list[float | None]:
    """Cosine length reward: correct and short is best, wrong and short worst; default in [-1, 1].

    The formula is that of Yeo et al. 2025, the four end points are those of open-r1 and TRL:

    ``long + (short - long) (1 + cos(pi length / max_length)) / 2``: falls from 1 to 0.5 with
    growing length for correct completions, rises from -1 to -0.5 for wrong ones (``right``
    and ``wrong`` are the rewards of the shortest and the longest); constant beyond
    ``max_length``. TRL's ``get_cosine_scaled_reward`` has the same formula but uses TRL's
    own accuracy, which does not accept plain answers.

    >>> cosine(["4", "w w w w 4", "5"], ["4", "4", "4"], completion_ids=[[], [1] * 9, []],
    ...        max_length=9)
    [1.0, 0.5, -1.0]
    """
    lengths = map(len, token_lists(completions, completion_ids))
    scores: list[float | None] = []
    verdicts = accuracy(completions, answer, prefilled=prefilled)
    for verdict, length in zip(verdicts, lengths, strict=True):
        near = (1 + math.cos(math.pi * min(1.0, length / max_length))) / 2  # 1 at length 0
        short, long = right if verdict else wrong
        scores.append(None if verdict is None else long + (short - long) * near)
    return scores
