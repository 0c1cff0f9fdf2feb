"""Rewards that know nothing of the answer: controls for a claim that a reward taught something.

A model that gains as much from a random reward as from the accuracy was not taught by the
accuracy (Shao et al. 2025, "Spurious Rewards: Rethinking Training Signals in RLVR").
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from trlm_utils import answers
from trlm_utils.rewards.library import Completions, texts_of


def coin(
    completions: Completions,
    *,
    chance: float = 0.5,
    seed: int = 0,
    trainer_state: Any = None,
    **_: Any,
) -> list[float]:
    """1.0 with probability ``chance``, else 0.0, whatever the completion says.

    Depends on the seed, the training step and the place in the batch only, so that a resumed
    training gets the same rewards.

    Args:
        chance: in [0, 1].
        seed: another one gives other rewards.
        trainer_state: TRL's, which knows the step.

    >>> coin(["4", "5", "6", "7"])
    [1.0, 0.0, 0.0, 1.0]
    """
    step = getattr(trainer_state, "global_step", 0)
    rng = random.Random(f"{seed}/{step}")
    return [float(rng.random() < chance) for _ in completions]


def majority(
    completions: Completions, *, prompts: Sequence[Any] | None = None, **_: Any
) -> list[float]:
    """1.0 for the answer that most completions of the group give, else 0.0; no gold answer.

    Zuo et al. 2025 ("TTRL: Test-Time Reinforcement Learning"). Consecutive completions with the
    same prompt are a group; without prompts, all completions are. Without any answer in a
    group all get 0.0.

    >>> majority(["The answer is 4.", "The answer is 5.", "The answer is 4.0."])
    [1.0, 0.0, 1.0]
    """
    texts = texts_of(completions)
    keys = [""] * len(texts) if prompts is None else [str(prompt) for prompt in prompts]
    scores: list[float] = []
    for _key, members in groupby(range(len(texts)), key=keys.__getitem__):
        group = [texts[i] for i in members]
        winner = answers.elected(group)
        wanted = None if winner is None else answers.answer_key(winner)
        scores += [float(wanted is not None and answers.answer_key(t) == wanted) for t in group]
    return scores
