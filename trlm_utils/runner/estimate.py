"""What a recipe at full scale would take: downloads, memory, hours, dollars, beforehand.

Parameters are counted exactly, on the meta device, from the published architecture. The
rest are rules of thumb with their assumptions beside them (`ASSUMPTIONS`); a run that was
measured is always better.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from trlm_utils import architectures
from trlm_utils.evaluation import suites
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.recipes import Plan, StagePlan


@dataclass(frozen=True)
class Gpu:
    """A card: dense half-precision FLOP/s, memory in GB, bytes/s, and a price an hour."""

    flops: float
    memory: float
    bandwidth: float
    dollars: float


# Data sheets of the makers; prices are assumptions, near what clouds asked in 2025.
GPUS = {
    "T4": Gpu(65e12, 16, 320e9, 0.35),
    "L40S": Gpu(362e12, 48, 864e9, 1.00),
    "A100": Gpu(312e12, 80, 2039e9, 1.80),
    "H100": Gpu(989e12, 80, 3350e9, 2.50),
    "MI300X": Gpu(1307e12, 192, 5300e9, 2.00),
}
BUSY = 0.3  # of a card's FLOP/s, in training
DRAWN = 0.5  # of a card's bandwidth, while sampling
FULL = 0.5  # of the longest row allowed, on average
PROMPT_TOKENS = 512  # of a prompt, at most
LAYER_SECONDS = 1e-3  # of a decoding step, for each layer: kernels are started one by one
ASSUMPTIONS = (
    f"training uses {BUSY:.0%} of the card's half-precision FLOP/s: 6 FLOP a parameter and "
    "token, 8 with activations computed again (Kaplan et al. 2020)",
    f"sampling goes token by token: a step's completions are drawn together as far as memory "
    f"holds them, a batch takes as many decoding steps as its longest completion (all that are "
    f"allowed), and, without vLLM, a decoding step takes the longer of "
    f"{LAYER_SECONDS * 1e3:.0f} ms a layer and "
    f"reading weights and KV cache at {DRAWN:.0%} of the memory's bandwidth",
    f"rows and completions are {FULL:.0%} as long as allowed, on average",
    "TRL's trainers score tokens in tiles and hold no whole table of logits; PPO holds one of "
    "its micro-batch, in fp32, with its log-probabilities and gradients",
    "weights and gradients in fp32, AdamW's two states for what is trained; activations "
    "34 bytes a token, layer and unit of width, or 2 when computed again (Korthikanti et "
    "al. 2022)",
    "of the evaluation what is written to published benchmarks, EVAL_BATCH at once; not the "
    "choice among options, nor the course's own questions",
    "no data loading, no waiting; nothing here was measured",
)


@dataclass(frozen=True)
class Cost:
    """Of one stage: tokens trained on and sampled, memory in GB, hours, dollars."""

    stage: str
    trained: float
    sampled: float
    memory: float
    hours: float
    dollars: float


def of_plan(plan: Plan, gpu: Gpu) -> list[Cost]:
    """The cost of every stage that trains, and of asking published benchmarks.

    Raises:
        RecipeError: when the recipe names no architecture to count.
    """
    name = next((s.parameters.get("ARCHITECTURE") for s in plan.stages), "")
    if not name:
        raise RecipeError(f"{plan.recipe} ({plan.scale}) names no ARCHITECTURE in its first stage")
    rows = _rows(plan)
    costs = [of_stage(stage, name, rows, gpu) for stage in plan.stages if _steps(stage, rows)]
    return costs + [
        of_evaluation(stage, name, gpu)
        for stage in plan.stages
        if set(stage.parameters.get("SUITES", ())) - {"nano"}
    ]


def of_stage(stage: StagePlan, architecture: str, rows: dict[str, float], gpu: Gpu) -> Cost:
    """The cost of one stage (see `ASSUMPTIONS`).

    Args:
        architecture: the model's, one of `architectures.architecture`.
        rows: data set -> its rows.
    """
    values, config = stage.parameters, architectures.architecture(architecture)
    size = _parameters(architecture)
    steps = _steps(stage, rows)
    width, layers = config.hidden_size, config.num_hidden_layers
    if "PROMPTS_PER_STEP" in values:
        completions = steps * values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"]
        sampled = completions * values["MAX_NEW_TOKENS"] * FULL
        longest, batch = values["MAX_NEW_TOKENS"] + PROMPT_TOKENS, values.get("MICRO_BATCH", 8)
        trained = completions * longest * FULL * values.get("ITERATIONS", 1)
    else:
        sides = 2 if "BETA" in values else 1  # a chosen and a rejected reply
        longest, batch = values["MAX_LENGTH"], values["BATCH_SIZE"] * sides
        trained = steps * batch * values["ACCUMULATION"] * longest * FULL
        sampled = 0.0
    again = values.get("CHECKPOINTING", False)
    sampling = 0.0
    if sampled:
        together = prompts_together(config, size, values, gpu)
        rounds = math.ceil(values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"] / together)
        decoding = steps * rounds * values["MAX_NEW_TOKENS"]
        sampling = decoding * decoding_seconds(config, size, together, longest * FULL, gpu)
    training = (8 if again else 6) * size * trained / (gpu.flops * BUSY)
    reference = values.get("KL_BETA", 0) or "BETA" in values
    training += (2 * size * trained / (gpu.flops * BUSY)) if reference else 0.0
    hours = (training + sampling) / 3600
    learned = _trainable(architecture, size, values.get("LORA_RANK", 0))
    held = 4 * size + 12 * learned + (4 * size if reference else 0)
    held += batch * longest * width * layers * (2 if again else 34)
    if "CRITIC_RATE" in values:  # the critic, its gradients and states; the logits of a batch
        held += 16 * size + 3 * 4 * batch * longest * config.vocab_size
    return Cost(stage.stage, trained, sampled, held / 1e9, hours, hours * gpu.dollars)


def cache_bytes(config: Any, bytes_each: int = 2) -> int:
    """Keys and values of one token in all layers, in half precision unless said otherwise."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * bytes_each * config.num_hidden_layers * config.num_key_value_heads * head


def prompts_together(config: Any, size: int, values: dict[str, Any], gpu: Gpu) -> int:
    """Completions of a step that are drawn at once: all, or what memory holds beside the weights.

    Weights, gradients and optimizer states lie there in fp32; half of the rest is taken.
    """
    completions = values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"]
    room = max(0.0, gpu.memory * 1e9 - 16 * size) / 2
    tokens = values["MAX_NEW_TOKENS"] + PROMPT_TOKENS
    each = tokens * cache_bytes(config, 4) + 16 * config.vocab_size  # and the logits of a token
    return max(1, min(completions, int(room / each)))


def decoding_seconds(config: Any, size: int, together: int, tokens: float, gpu: Gpu) -> float:
    """One decoding step of so many completions, with so many tokens in the KV cache each."""
    read = 2 * size + together * tokens * cache_bytes(config)
    return max(config.num_hidden_layers * LAYER_SECONDS, read / (gpu.bandwidth * DRAWN))


def of_evaluation(stage: StagePlan, architecture: str, gpu: Gpu) -> Cost:
    """The cost of what all models write to the suites' questions (see `ASSUMPTIONS`)."""
    values, config = stage.parameters, architectures.architecture(architecture)
    size = _parameters(architecture)
    replies = sum(
        suites.load(name).replies(values["TASKS"], values["SAMPLES"], values["SUITE_QUESTIONS"])
        for name in values["SUITES"]
        if name != "nano"
    )
    budget, together = values["MAX_NEW_TOKENS"], values["EVAL_BATCH"]
    asked = len(values["EVALUATE"]) * replies
    sampled = asked * budget * FULL
    decoding = math.ceil(asked / together) * budget
    hours = decoding * decoding_seconds(config, size, together, budget * FULL, gpu) / 3600
    # the cache in fp32, of every token; the logits of one as the model and sampling hold them
    held = 4 * size + together * (budget * cache_bytes(config, 4) + 16 * config.vocab_size)
    return Cost(stage.stage, 0.0, sampled, held / 1e9, hours, hours * gpu.dollars)


def _rows(plan: Plan) -> dict[str, float]:
    """Data set -> rows that its mixture asks for."""
    mixtures = next((s.parameters["MIXTURE"] for s in plan.stages if "MIXTURE" in s.parameters), {})
    return {
        name: sum(
            source.get("rows") or source.get("share", 0) * spec.get("rows", 0)
            for source in spec["sources"]
        )
        for name, spec in mixtures.items()
    }


def _steps(stage: StagePlan, rows: dict[str, float]) -> float:
    """Optimizer steps; 0 for a stage that does not train."""
    values = stage.parameters
    if "MAX_STEPS" not in values or values.get("BASE_PROBLEMS") == 0:
        return 0
    if values["MAX_STEPS"] > 0:
        return values["MAX_STEPS"]
    known = rows.get(values.get("DATASET", "preferences"), 0)
    return known * values.get("EPOCHS", 1) / (values["BATCH_SIZE"] * values["ACCUMULATION"])


def _trainable(architecture: str, size: int, rank: int) -> int:
    """Parameters that are trained: all, or those of adapters on every linear layer."""
    return _parameters(architecture, rank) if rank else size


@functools.cache  # a recipe's stages share a model, and often a rank
def _parameters(architecture: str, rank: int = 0) -> int:
    return architectures.parameters_of(architectures.architecture(architecture), rank)


def downloads(plan: Plan) -> list[str]:
    """What a run would fetch: the model, with its size, and every data set."""
    lines = []
    for stage in plan.stages:
        values = stage.parameters
        if values.get("BASE_MODEL"):
            size = _parameters(values["ARCHITECTURE"])
            lines.append(f"{values['BASE_MODEL']}: {2 * size / 1e9:.1f} GB in half precision")
        for name, spec in (values.get("MIXTURE") or {}).items():
            for source in spec["sources"]:
                if "hub" in source:
                    part = ":".join(source[k] for k in ("subset", "split") if k in source)
                    lines.append(
                        f"{source['hub']} {part}: {source.get('rows', 'all')} rows, streamed, "
                        f"for {name}"
                    )
        for name in values.get("SUITES", ()):
            if name != "nano" and not values["SUITE_DIR"]:
                lines.append(f"suite {name}: {', '.join(suites.load(name).hub)}")
    return list(dict.fromkeys(lines))


def text(plan: Plan, name: str) -> str:
    """The estimate for people.

    Raises:
        RecipeError: for a card that is not known, or see `of_plan`.
    """
    if name not in GPUS:
        raise RecipeError(f"no card {name!r}; known: {', '.join(GPUS)}")
    gpu = GPUS[name]
    costs = of_plan(plan, gpu)
    lines = ["Downloads", *(f"  {line}" for line in downloads(plan)), ""]
    lines.append(f"One {name} ({gpu.memory:.0f} GB, ${gpu.dollars:.2f} an hour), estimated")
    lines.append(
        f"  {'stage':<18} {'trained':>9} {'sampled':>9} {'memory':>9} {'hours':>7} {'$':>8}"
    )
    for cost in costs:
        note = "  does not fit" if cost.memory > gpu.memory else ""
        lines.append(
            f"  {cost.stage:<18} {cost.trained / 1e6:>7,.0f} M {cost.sampled / 1e6:>7,.0f} M "
            f"{cost.memory:>6.0f} GB {cost.hours:>7.1f} {cost.dollars:>8.2f}{note}"
        )
    hours, dollars = sum(c.hours for c in costs), sum(c.dollars for c in costs)
    lines += [f"  {'all':<18} {hours:>45.1f} {dollars:>8.2f}", "", "Assumed"]
    return "\n".join([*lines, *(f"  - {line}" for line in ASSUMPTIONS)])
