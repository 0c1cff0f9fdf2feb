"""Mixes of rewards: turn names and weights into reward functions for TRL, and into scores.

    REWARD_WEIGHTS: {accuracy: 1.0, cosine: {weight: 2.0, max_length: 3584}}

A predefined mix can be used by its name (`MIXES`): ``{tina: 1.0}``. A custom reward is
named by its file and its function (`trlm_utils.rewards.own`):
``{"my_rewards.py:politeness": 0.5, accuracy: 1.0}``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from trlm_utils.rewards import controls, library, model_rewards, own
from trlm_utils.rewards.library import Completions, Reward
from trlm_utils.rewards.model_rewards import Models

Weights = dict[str, Any]  # name -> weight, or {"weight": ..., setting: ...}


REWARDS: dict[str, Reward] = {
    function.__name__: function
    for function in (
        library.accuracy,
        library.think_format,
        library.think_answer_format,
        library.reasoning_answer_format,
        library.boxed_format,
        library.tag_count,
        library.reasoning_steps,
        library.repetition,
        library.ngram_repetition,
        library.brevity,
        library.length_in_group,
        library.length_exact,
        library.length_max,
        library.overlong,
        library.cosine,
        model_rewards.reference_gain,
        model_rewards.routed,
        model_rewards.learned,
        controls.coin,
        controls.majority,
    )
}
CONTROLS = ("coin", "majority")  # know no gold answer; the hack bench does not judge them

# Predefined mixes: the course's own, and those of systems that recipes reproduce. Lengths fit
# NanoWorld.
MIXES: dict[str, Weights] = {
    "nano": {"accuracy": 1.0, "think_format": 0.1, "repetition": 0.1},
    # a Qwen2.5-0.5B experiment with the five rewards of open-r1's first recipes
    "qwen_rl": {
        "accuracy": 1.0,
        "think_answer_format": 1.0,
        "reasoning_steps": 1.0,
        "cosine": 1.0,
        "ngram_repetition": 1.0,
    },
    "tina": {"think_format": 1.0, "cosine": 2.0},  # Wang et al. 2025, after Open-RS
    # a Gemma-2-2B entry: a format reward, and a reward that depends on the domain
    "tunix": {"reasoning_answer_format": 1.0, "routed": 1.0},
}


def expand(weights: Weights) -> Weights:
    """Replace names of predefined mixes by their rewards, with the weights multiplied.

    Raises:
        ValueError: when a reward occurs twice.
    """
    if not isinstance(weights, dict):
        raise ValueError(f"a mix is a table of rewards and weights, not {type(weights).__name__}")
    parts: Weights = {}
    for name, given in weights.items():
        mix = MIXES.get(name)
        if mix is not None:
            _check_weight(name, given)
        for part, weight in (mix or {name: given}).items():
            if part in parts:
                raise ValueError(f"{part} occurs twice in the mix")
            parts[part] = weight if mix is None else weight * given
    return parts


def choose(weights: Weights, models: Models | None = None) -> tuple[list[Reward], list[float]]:
    """Reward functions and weights of a mix, as TRL's GRPOTrainer takes them.

    Args:
        weights: the mix, see the module's description.
        models: models for rewards that call one; without them these raise when called.

    Raises:
        ValueError: for an unknown name or setting, a weight that is not a finite number,
            or an empty mix.
    """
    parts = expand(weights)
    unknown = [name for name in parts if name not in REWARDS and not own.is_own(name)]
    if unknown:
        known = ", ".join([*REWARDS, *MIXES])
        raise ValueError(
            f"unknown reward {unknown}; known: {known}, and your own as file.py:function"
        )
    if not parts:
        raise ValueError("no reward given")
    functions, values = [], []
    for name, given in parts.items():
        settings = dict(given) if isinstance(given, dict) else {"weight": given}
        weight = settings.pop("weight", None)
        _check_weight(name, weight)
        functions.append(_with_settings(name, settings, models))
        values.append(float(weight))
    return _distinct(functions), values


def _check_weight(name: str, weight: Any) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ValueError(f"weight of {name} is {weight!r}, not a number")
    if not abs(weight) < 1e300:  # isfinite raises for integers beyond the range of floats
        raise ValueError(f"weight of {name} is {weight}, not a finite number")


def reward(name: str) -> Reward:
    """The reward function of a name in a mix, from the library or custom.

    Raises:
        ValueError: for a custom reward that cannot be used (`own.load`).
    """
    return own.load(name) if own.is_own(name) else REWARDS[name]


def _distinct(functions: list[Reward]) -> list[Reward]:
    """Give all functions different names, because TRL would merge the logs of equal names.

    Functions of the library keep their names. ``total`` is reserved for the weighted sum.
    """
    taken, found = {*REWARDS, "total"}, []
    for function in functions:
        name, count = function.__name__, 2
        if not _is_library(function):
            while function.__name__ in taken:
                function = partial(function)
                function.__name__ = f"{name}_{count}"  # type: ignore[attr-defined]
                count += 1
            taken.add(function.__name__)
        found.append(function)
    return found


def _is_library(function: Reward) -> bool:
    """Whether a function, or the function that a partial wraps, is one of `REWARDS`."""
    return getattr(function, "func", function) is REWARDS.get(function.__name__)


def settings_of(reward: Reward) -> dict[str, Any]:
    """A reward's settings (its keyword-only arguments) and their defaults."""
    handed_over = ("completion_ids", "prompts", "models")
    return {
        name: parameter.default
        for name, parameter in inspect.signature(reward).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in handed_over
    }


def can_score(weights: Weights, models: Models | None = None) -> bool:
    """Whether all models that the rewards of a mix call are given."""
    return not any((models or Models()).missing(name) for name in expand(weights))


def _with_settings(name: str, settings: dict[str, Any], models: Models | None) -> Reward:
    """The reward with its settings applied; it keeps its name, under which TRL logs it."""
    function = reward(name)
    known = settings_of(function)
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        raise ValueError(f"{name} has no setting {unknown}; it has: {', '.join(known) or 'none'}")
    for setting, value in settings.items():
        where, default = f"{setting} of {name}", known[setting]
        if name in REWARDS:
            _check_setting(where, value, default)
        elif _is_number(default) and not _is_number(value):
            raise ValueError(f"{where} is {value!r}, not a number")
    if models and "models" in inspect.signature(function).parameters:
        settings = settings | {"models": models}
    if not settings:
        return function
    chosen = partial(function, **settings)
    chosen.__name__ = function.__name__  # type: ignore[attr-defined]
    return chosen


def _is_number(value: Any) -> bool:
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and -math.inf < value < math.inf


def _check_setting(where: str, value: Any, default: Any) -> None:
    """Raise ValueError unless a setting has its default's type; numbers must be finite, above 0."""
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        kind = int if isinstance(default, int) else int | float
        fits = isinstance(value, kind) and not isinstance(value, bool) and 0 < value < math.inf
        wanted = f"a {'whole ' * (kind is int)}number above 0"
    elif isinstance(default[0], float):
        numbers = isinstance(value, list | tuple) and len(value) == len(default)
        fits = numbers and all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in value
        )
        wanted = f"a list of {len(default)} numbers"
    else:
        texts = isinstance(value, list | tuple) and all(v and isinstance(v, str) for v in value)
        fits, wanted = texts and bool(value), "a list of texts"
    if not fits:
        raise ValueError(f"{where} is {value!r}, not {wanted}")


def score(
    weights: Weights, completions: Completions, models: Models | None = None, **columns: Any
) -> list[dict[str, float]]:
    """The rewards of each completion and their weighted ``total`` (None counts as 0).

    Returns:
        One dictionary per completion: name of the reward -> its value, and ``total``.
    """
    functions, values = choose(weights, models)
    rows: list[dict[str, float]] = [{} for _ in completions]
    for function, weight in zip(functions, values, strict=True):
        name = function.__name__
        parts = function(completions=completions, **columns)
        for row, part in zip(rows, parts, strict=True):
            row[name] = 0.0 if part is None else float(part)
            row["total"] = row.get("total", 0.0) + weight * row[name]
    return rows


def advantages(rewards: Sequence[float], scale: bool = True) -> list[float]:
    """GRPO's advantages of one group: reward minus mean, divided by the standard deviation.

    ``A_i = (r_i - mean(r)) / (std(r) + 1e-4)`` with the unbiased standard deviation
    (Shao et al. 2024, DeepSeekMath, section 4.1; constants as in TRL). Without
    ``scale`` the division is left out (Liu et al. 2025, Dr. GRPO).

    Raises:
        ValueError: for a group of fewer than two rewards.
    """
    n = len(rewards)
    if n < 2:
        raise ValueError("a group needs at least two rewards")
    mean = sum(rewards) / n
    centred = [reward - mean for reward in rewards]
    if not scale:
        return centred
    spread = math.sqrt(sum(c * c for c in centred) / (n - 1))
    return [c / (spread + 1e-4) for c in centred]
