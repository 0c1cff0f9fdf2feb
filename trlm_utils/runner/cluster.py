"""Estimate a recipe on several cards: memory of a rank, hours, and what bounds each stage.

The work and the card's speeds are those of `estimate`. Ranks divide the tokens that are trained
and sampled, but not the decoding steps that follow one another: a rank's batch of completions
takes as many as one card's, as long as it fits. What is added is the gradients' way between the
cards (Rajbhandari et al. 2020, *ZeRO*, section 7, counts the same volumes).
"""

from __future__ import annotations

from dataclasses import dataclass

from trlm_utils.runner import estimate, work
from trlm_utils.runner.estimate import Gpu, Model
from trlm_utils.runner.recipes import Plan, StagePlan
from trlm_utils.runner.torchrun import Ranks

LINK = 50e9  # bytes a second between two machines: 400 Gbit/s; NVLink inside one is faster
ASSUMPTIONS = (
    f"gradients are added up in fp32 over links of {LINK / 1e9:.0f} GB/s (400 Gbit/s, as between "
    "machines), once an optimizer step, nothing hidden behind the backward pass: a ring sends "
    "2 (N - 1) / N of their bytes. Sharded (FSDP), weights are gathered twice and gradients "
    "scattered once in every pass: 3 (N - 1) / N",
    "sharded, each rank keeps 1 / N of weights, gradients and optimizer states; the layer that it "
    "has gathered at the moment is not counted. What draws completions is whole on every rank: "
    "the course's sampling cannot draw from shards",
    "what every rank does alike is not divided: the held-out evaluations beside training are "
    "counted as if it were, the rest is small",
)


@dataclass(frozen=True)
class Cards:
    """Cards that train together, one rank on each.

    Attributes:
        gpu: the kind of card.
        ranks: their number.
        sharded: weights, gradients and optimizer states are divided among them (FSDP, ZeRO-3).
    """

    gpu: Gpu
    ranks: int
    sharded: bool = False


@dataclass(frozen=True)
class Share:
    """What one stage takes on these cards: GB of a rank, and hours by what they are spent on."""

    stage: str
    memory: float
    training: float
    sampling: float
    gradients: float

    @property
    def hours(self) -> float:
        """Hours of the stage, one kind of work after another."""
        return self.training + self.sampling + self.gradients

    @property
    def bound(self) -> str:
        """The kind of work that takes most of the time."""
        kinds = ("training", "sampling", "gradients")
        return max(kinds, key=lambda kind: getattr(self, kind))


def of_plan(plan: Plan, cards: Cards) -> list[Share]:
    """Every stage that trains or samples; those that do not train on ranks use one card.

    Raises:
        RecipeError: see `estimate.of_plan`.
    """
    model = estimate.of_recipe(plan)
    stages = {stage.stage: stage for stage in plan.stages}

    def together(stage: StagePlan) -> int:
        return _together(stage, model, cards) * _ranks(stage, cards)

    return [of_stage(stages[d.stage], d, model, cards) for d in work.of_plan(plan, together)]


def of_stage(stage: StagePlan, done: work.Work, model: Model, cards: Cards) -> Share:
    """One stage's work on these cards (see `ASSUMPTIONS`)."""
    ranks = _ranks(stage, cards)
    speeds = estimate.speeds_on(stage, done, model, cards.gpu)
    training = (done.padded * speeds.trained + done.read * speeds.read) / ranks
    sampling = done.decoding * speeds.decoding + done.sampled * speeds.sampled / ranks
    at_once = min(_together(stage, model, cards), estimate._drawn_at_once(stage.parameters) / ranks)
    passing = max(
        estimate.training_bytes(stage, model) if done.trained else 0,
        at_once * estimate._completion_bytes(stage, model),
    )
    return Share(
        stage.stage,
        (_held(stage, model, cards) + passing) / 1e9,
        training / 3600,
        sampling / 3600,
        _sent(stage, done, model, ranks, cards.sharded) / LINK / 3600,
    )


def _ranks(stage: StagePlan, cards: Cards) -> int:
    return cards.ranks if Ranks(cards.ranks).trains(stage) else 1


def _held(stage: StagePlan, model: Model, cards: Cards) -> float:
    """Bytes that a rank holds all the time: its part of the model, and what draws completions."""
    held = estimate.static_bytes(stage, model)
    if not cards.sharded or _ranks(stage, cards) == 1:
        return held
    samples = "MAX_NEW_TOKENS" in stage.parameters
    copied = estimate._drawn_bytes(stage.parameters) == 2  # then `held` counts the copy
    drawing = (2 if copied else 4) * model.size if samples else 0
    return (held - (drawing if copied else 0)) / cards.ranks + drawing


def _together(stage: StagePlan, model: Model, cards: Cards) -> int:
    """Largest batch of completions that a rank can sample in its memory."""
    return estimate.together(stage, model, cards.gpu, _held(stage, model, cards))


def _sent(stage: StagePlan, done: work.Work, model: Model, ranks: int, sharded: bool) -> float:
    """Bytes that a rank sends for gradients, and for weights if these are sharded."""
    part = (ranks - 1) / ranks
    if sharded:
        return done.passes / ranks * 3 * part * 4 * model.size
    values = stage.parameters
    adapters = values.get("LORA_RANK", 0)
    learned = estimate._parameters(model.name, adapters) if adapters else model.size
    together = values.get("PROMPTS_PER_STEP", 0) * values.get("GROUP_SIZE", 0)
    accumulated = together / values["MICRO_BATCH"] if together and "MICRO_BATCH" in values else 0
    steps = done.passes / max(1, accumulated or values.get("ACCUMULATION", 1))
    return steps * 2 * part * 4 * learned


def text(plan: Plan, name: str, ranks: int, sharded: bool = False) -> str:
    """The estimate as a table, with its assumptions.

    Args:
        name: name of a card in `estimate.GPUS`.

    Raises:
        RecipeError: for an unknown card; or see `of_plan`.
    """
    cards = Cards(estimate.card(name), ranks, sharded)
    how = "sharded" if sharded else "each with the whole model"
    lines = [
        f"{ranks} x {name} ({cards.gpu.memory:.0f} GB), {how}, estimated",
        f"  {'stage':<18} {'a rank':>8} {'hours':>7} {'training':>9} {'sampling':>9} "
        f"{'gradients':>10} {'$':>8}  bound by",
    ]
    hours = dollars = 0.0
    for share in of_plan(plan, cards):
        held = cards.ranks if share.gradients else 1
        cost = share.hours * held * cards.gpu.dollars
        hours, dollars = hours + share.hours, dollars + cost
        note = "; does not fit" if share.memory > cards.gpu.memory else ""
        lines.append(
            f"  {share.stage:<18} {share.memory:>5.0f} GB {share.hours:>7.1f} "
            f"{share.training:>9.1f} {share.sampling:>9.1f} {share.gradients:>10.1f} "
            f"{cost:>8.2f}  {share.bound}{note}"
        )
    lines += [f"  {'all':<18} {hours:>16.1f} {dollars:>39.2f}", "", "Assumed"]
    return "\n".join([*lines, *(f"  - {line}" for line in ASSUMPTIONS)])
