"""Rewards that call a model: the policy itself (RLPR), or a learned outcome reward model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trlm_utils import chat, nanoworld
from trlm_utils.rewards import reference_probability, reward_models
from trlm_utils.rewards.library import Completions, accuracy, texts_of

# the attributes of `Models` that a reward needs
ASKS = {"reference_gain": ("policy", "tokenizer"), "learned": ("judge", "tokenizer")}


@dataclass(frozen=True)
class Models:
    """The models that rewards call.

    Attributes:
        policy: the model in training, for `reference_gain`.
        tokenizer: tokenizer of the policy and of the judge.
        judge: a learned outcome reward model, for `learned`.
    """

    policy: Any = None
    tokenizer: Any = None
    judge: Any = None

    def missing(self, reward: str) -> list[str]:
        """Names of the attributes that the reward needs and that are None."""
        return [part for part in ASKS.get(reward, ()) if getattr(self, part) is None]

    def check(self, reward: str) -> None:
        """Raise ValueError if a model that the reward needs is missing."""
        missing = self.missing(reward)
        if missing:
            raise ValueError(f"{reward} asks a model that was not given: {', '.join(missing)}")


def reference_gain(
    completions: Completions,
    prompts: Sequence[Any],
    answer: Sequence[str] | None = None,
    reference: Sequence[str] | None = None,
    *,
    models: Models = Models(),
    **_: Any,
) -> list[float | None]:
    """How much more probable the reasoning made the reference answer, in [0, 1].

    ``clip(p(reference | prompt, reasoning) - p(reference | prompt), 0, 1)``, where p is the
    mean probability of the reference's tokens under the policy (RLPR, Yu et al. 2025). It is
    meant for answers that no rule can verify. None for rows without reference or answer.

    Args:
        answer: if given, only its tokens within the reference count.
        reference: the text that should follow the reasoning; by default NanoWorld's sentence
            with the answer, or only the answer if the completion has ``<answer>``.
        models: needs policy and tokenizer.

    Raises:
        ValueError: when a model is missing.

    >>> from trlm_utils import models as networks, tokenization
    >>> tokenizer = tokenization.build_tokenizer(["What is 2 + 2? The answer is 4."])
    >>> asked = Models(networks.build_model(tokenizer), tokenizer)
    >>> thought = "<think> 2 + 2: 4.</think> The answer is 4."
    >>> (gain,) = reference_gain([thought], ["What is 2 + 2?"], ["4"], models=asked)
    >>> 0.0 <= gain <= 1.0
    True
    """
    models.check("reference_gain")
    texts = texts_of(completions)
    none = [""] * len(texts)
    columns = zip(texts, prompts, answer or none, reference or none, strict=True)
    rows = [
        (i, _rendered(prompt, models.tokenizer), text, _reference(text, gold, said), gold or "")
        for i, (text, prompt, gold, said) in enumerate(columns)
        if gold or said
    ]
    scores: list[float | None] = [None] * len(texts)
    if rows:
        places, *parts = map(list, zip(*rows, strict=True))
        found = reference_probability.gains(models.policy, models.tokenizer, *parts)
        for i, gain in zip(places, found, strict=True):
            scores[i] = gain
    return scores


def _rendered(prompt: Any, tokenizer: Any) -> str:
    return prompt if isinstance(prompt, str) else chat.render(tokenizer, prompt, prompt=True)


def _reference(completion: str, answer: str, reference: str) -> str:
    return reference or (answer if "<answer>" in completion else nanoworld.answer_text(answer))


def routed(
    completions: Completions,
    prompts: Sequence[Any],
    answer: Sequence[str],
    reference: Sequence[str] | None = None,
    *,
    prefilled: bool = False,
    models: Models = Models(),
    **_: Any,
) -> list[float | None]:
    """`accuracy` where the answer can be verified, else `reference_gain`, in [0, 1].

    This routing comes from a Gemma/Tunix entry that trained one policy on verifiable and
    open-ended tasks. A row is open-ended if its ``answer`` is empty and it has a ``reference``.

    >>> routed(["The answer is 4.", "The answer is 5."], ["2 + 2?", "2 + 2?"], ["4", "4"])
    [1.0, 0.0]
    """
    verdicts = accuracy(completions, answer, prefilled=prefilled)
    opened = [i for i, verdict in enumerate(verdicts) if verdict is None]
    if opened and reference is not None:
        chosen = [[column[i] for i in opened] for column in (completions, prompts, reference)]
        found = reference_gain(chosen[0], chosen[1], reference=chosen[2], models=models)
        for i, gain in zip(opened, found, strict=True):
            verdicts[i] = gain
    return verdicts


def learned(
    completions: Completions,
    prompts: Sequence[Any],
    *,
    models: Models = Models(),
    **_: Any,
) -> list[float]:
    """Score of a learned outcome reward model, in (0, 1): the logistic function of its output.

    Notebook 11 trains the model on preference pairs (Bradley-Terry loss; TRL's
    RewardTrainer). It is reliable only on completions like its training data; a policy that
    is trained with this reward drifts away from them.

    Args:
        prompts: message lists.
        models: needs judge and tokenizer.

    Raises:
        ValueError: when a model is missing.

    >>> from transformers import Exaone4ForSequenceClassification
    >>> from trlm_utils import models as networks, tokenization
    >>> tokenizer = tokenization.build_tokenizer(["What is 2 + 2? The answer is 4."])
    >>> config = networks.build_model(tokenizer).config
    >>> config.num_labels = 1
    >>> asked = Models(tokenizer=tokenizer, judge=Exaone4ForSequenceClassification(config))
    >>> (score,) = learned(["4"], [chat.to_prompt("What is 2 + 2?")], models=asked)
    >>> 0.0 < score < 1.0
    True
    """
    models.check("learned")
    texts = [
        chat.render(models.tokenizer, [*prompt, {"role": "assistant", "content": text}])
        for prompt, text in zip(prompts, texts_of(completions), strict=True)
    ]
    scores = reward_models.outcome_scores(models.judge, models.tokenizer, texts)
    # equals 1 / (1 + exp(-score)), which overflows for very low scores
    return [(1 + math.tanh(score / 2)) / 2 for score in scores]
