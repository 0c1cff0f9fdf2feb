r"""Custom rewards: a function in a file of yours, named in a mix by file and function.

    REWARD_WEIGHTS: {"my_rewards.py:politeness": 0.5, accuracy: 1.0}

The path is absolute or relative to the project's folder. The function has the signature
that TRL requires. It gets completions as TRL's trainers pass them, as lists of messages:

    def politeness(completions, **columns):
        return [float("please" in completion[-1]["content"]) for completion in completions]

Keyword-only arguments with a default are settings. A problem with a reward is reported in
one line: before training where possible, else together with the completion that caused it.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import math
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import chat, nanoworld
from trlm_utils.files import from_root, shown

NAME = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


class RewardError(ValueError):
    """A custom reward cannot be used; the message says why, in one line."""


def is_own(name: str) -> bool:
    """Whether a name in a mix is that of a custom reward: ``file.py:function``.

    >>> is_own("my_rewards.py:politeness"), is_own("accuracy")
    (True, False)
    """
    return isinstance(name, str) and bool(NAME.fullmatch(name))


def file_of(name: str) -> Path:
    """Path of the file in the name of a custom reward."""
    return from_root(NAME.fullmatch(name)[1])


def beside(weights: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A mix with paths of custom rewards resolved in ``folder``, where a file is found there.

    Used for mixes read from ``rewards.json``, whose files are next to it.
    """
    found = {}
    for name, given in weights.items():
        near = folder / name
        there = is_own(name) and Path(str(near).rpartition(":")[0]).is_file()
        found[str(near.resolve()) if there else name] = given
    return found


def load(name: str) -> Any:
    """The function of a custom reward, wrapped so that its results are checked.

    Raises:
        RewardError: when the file is missing or raises on import, has no such function, or
            the function cannot be called as a reward.
    """
    path, wanted = file_of(name), NAME.fullmatch(name)[2]
    if not path.is_file():
        raise RewardError(f"reward {name}: there is no file {shown(path)}")
    spec = importlib.util.spec_from_file_location(f"own_rewards_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module here
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise RewardError(
            f"reward {name}: {shown(path)}, line {error.lineno}: {error.msg}"
        ) from None
    except (Exception, SystemExit) as error:
        raise RewardError(f"reward {name}: importing it failed: {_told(error, path)}") from None
    function = getattr(module, wanted, None)
    if not inspect.isfunction(function):
        there = [k for k, v in vars(module).items() if inspect.isfunction(v)]
        known = ", ".join(k for k in there if not k.startswith("_")) or "none"
        raise RewardError(f"reward {name}: the file has no function {wanted}, only: {known}")
    _check_signature(name, function)
    checked = _checked(name, function, path)
    _try(checked)
    return checked


def _check_signature(name: str, function: Any) -> None:
    """Raise RewardError for a function that TRL could not call."""
    parameters = inspect.signature(function).parameters.values()
    if [p.name for p in parameters][:1] != ["completions"]:
        raise RewardError(f"reward {name}: its first argument is not `completions`")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise RewardError(
            f"reward {name}: add **columns to its arguments, for the data's other columns"
        )


def _checked(name: str, function: Any, path: Path) -> Any:
    """Wrap a function so that it returns a finite number or None per completion, or raises."""

    @functools.wraps(function)
    def reward(completions: Sequence[Any], *args: Any, **kwargs: Any) -> list[float | None]:
        messages = [  # the hack bench and the reward probe pass plain texts
            [{"role": "assistant", "content": c}] if isinstance(c, str) else c for c in completions
        ]
        try:
            found = function(messages, *args, **kwargs)
        except (Exception, SystemExit) as error:
            raise RewardError(f"reward {name} failed: {_told(error, path)}") from None
        return _numbers(name, found, len(completions))

    reward.__signature__ = inspect.signature(function)  # `mixes.settings_of` reads it
    return reward


def _numbers(name: str, found: Any, wanted: int) -> list[float | None]:
    try:
        values = list(None if isinstance(found, str | dict | set) else found)
    except TypeError:
        raise RewardError(
            f"reward {name} returned {type(found).__name__}, not a list of numbers"
        ) from None
    if len(values) != wanted:
        raise RewardError(f"reward {name} returned {len(values)} numbers for {wanted} completions")
    numbers: list[float | None] = []
    for place, value in enumerate(values):
        try:
            text = isinstance(value, str | bytes)  # float() would also accept text
            number = None if value is None else math.nan if text else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise RewardError(f"reward {name} gave completion {place} {value!r}, not a number")
        numbers.append(number)
    return numbers


def _told(error: Exception, path: Path) -> str:
    """An error as one line, with the line number in the file where it occurred."""
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def _try(reward: Any) -> None:
    """Call a reward once, with two completions and the columns that training passes."""
    problem = nanoworld.make_problem("own_reward", 0)
    right = chat.think(nanoworld.careful_trace(problem), nanoworld.answer_text(problem.answer))
    reward(**columns_of(problem, [right, "I do not know."]))


def columns_of(problem: nanoworld.Problem, texts: Sequence[str]) -> dict[str, list[Any]]:
    """The arguments that TRL passes to a reward for completions of one problem.

    The token ids are placeholders.
    """
    n = len(texts)
    return {
        "completions": [[{"role": "assistant", "content": text}] for text in texts],
        "prompts": [chat.to_prompt(problem.question)] * n,
        "completion_ids": [list(range(len(text.split()))) for text in texts],
        "answer": [problem.answer] * n,
        "reference": [""] * n,
        "id": [problem.id] * n,
    }
