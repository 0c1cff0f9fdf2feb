"""Estimate what a recipe at full scale needs: downloads, memory, hours, dollars.

Parameters are counted exactly, on the meta device, from the published architecture. The amount
of work is counted from the recipe (`work`). All else are rules of thumb, whose assumptions are
listed in `ASSUMPTIONS`. With speeds measured on a machine (`measured`) they are not needed:
`hours` uses only work and speeds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from trlm_utils import architectures, models, nanoworld, tokenization
from trlm_utils.curation import data_sets
from trlm_utils.evaluation import suites
from trlm_utils.runner import work
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.recipes import Plan, StagePlan
from trlm_utils.runner.work import FULL


@dataclass(frozen=True)
class Gpu:
    """A GPU: dense half-precision FLOP/s, memory in GB, bandwidth in bytes/s, dollars per hour."""

    flops: float
    memory: float
    bandwidth: float
    dollars: float


# From the manufacturers' data sheets; prices are assumptions, close to cloud prices of 2025.
GPUS = {
    "T4": Gpu(65e12, 16, 320e9, 0.35),
    "L40S": Gpu(362e12, 48, 864e9, 1.00),
    "A100": Gpu(312e12, 80, 2039e9, 1.80),
    "H100": Gpu(989e12, 80, 3350e9, 2.50),
    "MI300X": Gpu(1307e12, 192, 5300e9, 2.00),
}
BUSY = 0.3  # share of a GPU's FLOP/s reached in training
DRAWN = 0.5  # share of a GPU's bandwidth reached in sampling
LAUNCH = 1e-3  # seconds per layer and forward pass for the CPU to launch the GPU's kernels
TOGETHER = 512  # largest number of completions sampled in one batch
TILE = (4096, 32768)  # tokens and vocabulary entries of one tile of logits in TRL
ASSUMPTIONS = (
    f"training uses {BUSY:.0%} of the card's half-precision FLOP/s: 6 FLOP a parameter and "
    "token, padding included, 8 with activations computed again (Kaplan et al. 2020); 2 for a "
    "token that a reference model reads",
    "sampling is counted in decoding steps that follow one another: every step reads all "
    "weights in the format that draws (DTYPE, ROLLOUT_DTYPE) and the KV cache in fp32, at "
    f"{DRAWN:.0%} of the memory's bandwidth; {TOGETHER} completions at once at most, fewer "
    "where a step of the recipe draws fewer or the memory ends, and each batch until its longest "
    "completion ends",
    f"a forward pass takes at least {1000 * LAUNCH:.0f} ms a layer, for starting its kernels "
    "one by one (transformers without CUDA graphs), and a backward pass twice that",
    f"rows and completions are {FULL:.0%} as long as allowed, on average; a batch of several "
    "rows is padded to one of full length",
    "on-policy pairs: every prompt gives as many as the recipe asks for",
    "weights in fp32, gradients and AdamW's two states for what is trained; activations "
    "34 bytes a token, layer and unit of width, or 2 and one layer's 34 when computed again "
    "(Korthikanti et al. 2022)",
    f"TRL's losses never hold a batch's logits: a tile of {TILE[0]:,} tokens x {TILE[1]:,} "
    "entries in half precision, and fp32 gradients of the hidden states and the output layer. "
    "PPO in notebook 12 holds all logits, three times in fp32",
    "of the evaluation what is written to questions, not the choice among options",
    "no data loading, no waiting, no start of kernels and libraries; nothing here was measured",
)


@dataclass(frozen=True)
class Speeds:
    """Seconds that a machine takes per unit of each kind of work (`work.Work`).

    Attributes:
        trained: per token in training, including padding.
        read: per token in a forward pass.
        decoding: per decoding step, whatever the batch size.
        sampled: per sampled token, in addition to ``decoding``.
        row: per row prepared for training.
    """

    trained: float
    read: float
    decoding: float
    sampled: float
    row: float = 0.0


def seconds(done: work.Work, speeds: Speeds) -> float:
    """Seconds that a stage's work takes at these speeds."""
    return (
        done.padded * speeds.trained
        + done.read * speeds.read
        + done.decoding * speeds.decoding
        + done.sampled * speeds.sampled
        + done.rows * speeds.row
    )


def hours(done: work.Work, speeds: Speeds) -> float:
    """Hours that a stage's work takes at these speeds."""
    return seconds(done, speeds) / 3600


def measured(
    training_step: float,
    tokens: int,
    few: tuple[int, float],
    many: tuple[int, float],
    row: float = 0.0,
) -> Speeds:
    """Speeds of a machine from these measurements.

    Args:
        training_step: seconds of a forward and backward pass on ``tokens`` tokens.
        few: a batch size, and seconds of one decoding step with it.
        many: the same with a larger batch size.
        row: seconds to prepare a row for training.

    Raises:
        ValueError: when the batch size of ``many`` is not larger than that of ``few``.
    """
    if many[0] <= few[0]:
        raise ValueError(f"time a decoding step for more completions than {few[0]}")
    each = max(0.0, (many[1] - few[1]) / (many[0] - few[0]))
    step = max(0.0, few[1] - few[0] * each)
    trained = training_step / tokens
    # a backward pass costs two forward passes
    return Speeds(trained, trained / 3, step, each, row)


def of_rates(training: float, drawing: float) -> Speeds:
    """Speeds of a machine from its tokens per second in training and in sampling.

    Args:
        training: training tokens per second.
        drawing: sampled tokens per second with hundreds of completions in a batch; it
            includes the cost of the decoding steps.
    """
    return Speeds(1 / training, 1 / training / 3, 0.0, 1 / drawing)


@dataclass(frozen=True)
class Cost:
    """Estimated cost of one stage: its work, memory in GB, hours, dollars."""

    stage: str
    work: work.Work
    memory: float
    hours: float
    dollars: float


@dataclass(frozen=True)
class Model:
    """An architecture's number of parameters, its shape, and the size of its KV cache."""

    name: str
    size: int
    width: int
    layers: int
    vocabulary: int
    cache: int  # bytes of the KV cache in fp32, per token over all layers


@functools.cache
def model_of(name: str) -> Model:
    """The `Model` of a published architecture (see `architectures.architecture`)."""
    config = architectures.architecture(name)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * head
    layers, vocabulary = config.num_hidden_layers, config.vocab_size
    return Model(name, _parameters(name), config.hidden_size, layers, vocabulary, cache)


def of_settings(values: dict[str, Any]) -> Model:
    """The `Model` that notebook 00 builds from these parameters, with random weights."""
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text(), values["VOCAB_SIZE"])
    width, layers = values["HIDDEN_SIZE"], values["LAYERS"]
    built = models.build_model(
        tokenizer, hidden_size=width, layers=layers, model_type=values["MODEL_TYPE"]
    )
    return Model("", built.num_parameters(), width, layers, len(tokenizer), 2 * 4 * layers * width)


def of_recipe(plan: Plan) -> Model:
    """The `Model` that a recipe trains.

    Raises:
        RecipeError: when the recipe neither names an architecture nor builds a model.
    """
    first = next((s.parameters for s in plan.stages if "HIDDEN_SIZE" in s.parameters), None)
    if first is None:
        raise RecipeError(f"{plan.recipe} ({plan.scale}) has no stage that makes its model")
    name = first["ARCHITECTURE"]
    return model_of(name) if name else of_settings(first)


def card(name: str) -> Gpu:
    """The GPU of this name.

    Raises:
        RecipeError: for an unknown one; names those of `GPUS`.
    """
    if name not in GPUS:
        raise RecipeError(f"no card {name!r}; known: {', '.join(GPUS)}")
    return GPUS[name]


def of_plan(plan: Plan, gpu: Gpu, model: Model | None = None) -> list[Cost]:
    """The cost of every stage that trains or samples, on a GPU.

    Args:
        model: what is trained; by default the recipe's own.

    Raises:
        RecipeError: see `of_recipe`.
    """
    model = model or of_recipe(plan)
    stages = {stage.stage: stage for stage in plan.stages}
    counted = work.of_plan(plan, lambda stage: together(stage, model, gpu))
    return [of_stage(stages[done.stage], done, model, gpu) for done in counted]


def of_stage(stage: StagePlan, done: work.Work, model: Model, gpu: Gpu) -> Cost:
    """The cost of one stage's work (see `ASSUMPTIONS`)."""
    took = hours(done, speeds_on(stage, done, model, gpu))
    memory = static_bytes(stage, model) + max(
        training_bytes(stage, model) if done.trained else 0, sampling_bytes(stage, model, gpu)
    )
    return Cost(stage.stage, done, memory / 1e9, took, took * gpu.dollars)


def speeds_on(stage: StagePlan, done: work.Work, model: Model, gpu: Gpu) -> Speeds:
    """Speeds of a GPU for a stage, from its data sheet (see `ASSUMPTIONS`)."""
    values, flops = stage.parameters, gpu.flops * BUSY
    again = values.get("CHECKPOINTING", False)
    started = 3 * LAUNCH * model.layers * done.passes / max(1.0, done.padded)
    bandwidth = gpu.bandwidth * DRAWN
    return Speeds(
        trained=max((8 if again else 6) * model.size / flops, started),
        read=2 * model.size / flops,
        decoding=max(_drawn_bytes(values) * model.size / bandwidth, LAUNCH * model.layers),
        sampled=model.cache * _context(values) * FULL / bandwidth,
    )


def together(stage: StagePlan, model: Model, gpu: Gpu, held: float | None = None) -> int:
    """Largest batch of completions that a stage can sample in a GPU's memory.

    Args:
        held: bytes that are held all the time; by default `static_bytes`.
    """
    free = gpu.memory * 1e9 - (static_bytes(stage, model) if held is None else held)
    return max(1, min(TOGETHER, int(free / _completion_bytes(stage, model))))


def _drawn_bytes(values: dict[str, Any]) -> int:
    """Bytes per weight of the model that samples completions."""
    return 4 if values.get("DTYPE", values.get("ROLLOUT_DTYPE", "float32")) == "float32" else 2


def static_bytes(stage: StagePlan, model: Model) -> float:
    """Bytes of the weights; for trained ones also gradients, AdamW's states, a sampling copy."""
    values = stage.parameters
    if not work.trains(stage) or values.get("BASE_MODEL"):
        return _drawn_bytes(values) * model.size
    rank = values.get("LORA_RANK", 0)
    learned = _parameters(model.name, rank) if rank and model.name else model.size
    held = 4 * model.size + 12 * learned + (4 * learned if rank else 0)
    if values.get("METHOD") == "ppo":  # plus a critic with all weights trained
        return held + 16 * model.size
    # the reference model is a copy; with LoRA it is the same model without adapters
    copied = "BETA" in values or (values.get("KL_BETA", 0) and not rank)
    drawing = 2 * model.size if _drawn_bytes(values) == 2 else 0
    return held + (4 * model.size if copied else 0) + drawing


def training_bytes(stage: StagePlan, model: Model) -> float:
    """Bytes of activations and logits in a forward and backward pass."""
    values = work.settings_of(stage)
    tokens = _pass_tokens(values)
    again = values.get("CHECKPOINTING", False)
    layers = 2 * model.layers + 34 if again else 34 * model.layers
    return tokens * model.width * layers + logits_bytes(values, tokens, model)


def logits_bytes(values: dict[str, Any], tokens: int, model: Model) -> float:
    """Largest number of bytes of logits that a loss holds in memory.

    TRL 1.16 (`trl.kernels.chunked_logprob`) computes log-probabilities for SFT, DPO and GRPO
    in tiles, and recomputes each tile in the backward pass. Its gradients are fp32.
    """
    if values.get("METHOD") == "ppo":  # logits, their log-softmax and its gradient, not tiled
        return 3 * 4 * tokens * model.vocabulary
    tile = 2 * min(tokens, TILE[0]) * min(model.vocabulary, TILE[1])
    head = 0 if values.get("LORA_RANK") else 4 * model.vocabulary * model.width
    return tile + 4 * tokens * model.width + head


def sampling_bytes(stage: StagePlan, model: Model, gpu: Gpu) -> float:
    """Bytes of KV cache and logits of the completions in one batch."""
    at_once = min(together(stage, model, gpu), _drawn_at_once(stage.parameters))
    return at_once * _completion_bytes(stage, model)


def _completion_bytes(stage: StagePlan, model: Model) -> int:
    """Bytes of one completion: KV cache; logits in fp32, as probabilities and cumulative."""
    return model.cache * _context(stage.parameters) + 3 * 4 * model.vocabulary


def _context(values: dict[str, Any]) -> int:
    """Largest number of tokens of a prompt and its completion together."""
    return 512 + values.get("MAX_NEW_TOKENS", 100)


def _drawn_at_once(values: dict[str, Any]) -> int:
    """Largest number of completions that a stage samples in one call."""
    if "PROMPTS_PER_STEP" in values:
        return max(values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"], data_sets.CHECK_PROMPTS)
    if "ROUNDS" in values:
        return values["PROMPTS"] * values["SAMPLES"] // values["ROUNDS"]
    if "DIRT_ROWS" in values:
        return 4 * work.FRESH
    return values.get("EVAL_BATCH", work.FRESH)


def _pass_tokens(values: dict[str, Any]) -> int:
    """Number of tokens of one forward and backward pass, including padding."""
    if "PROMPTS_PER_STEP" in values:
        all_at_once = values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"]
        return values.get("MICRO_BATCH", all_at_once) * _context(values)
    sides = 2 if {"BETA", "PAIRS_KEPT"} & values.keys() else 1
    return values["BATCH_SIZE"] * sides * values["MAX_LENGTH"]


@functools.cache  # stages of a recipe share a model, and often a rank
def _parameters(architecture: str, rank: int = 0) -> int:
    return architectures.parameters_of(architectures.architecture(architecture), rank)


def downloads(plan: Plan) -> list[str]:
    """What a run would download: the model, with its size, and every data set."""
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
    """The estimate as text to print.

    Args:
        name: name of a GPU in `GPUS`.

    Raises:
        RecipeError: for an unknown GPU; or see `of_plan`.
    """
    gpu = card(name)
    costs = of_plan(plan, gpu)
    lines = ["Downloads", *(f"  {line}" for line in downloads(plan)), ""]
    lines.append(f"One {name} ({gpu.memory:.0f} GB, ${gpu.dollars:.2f} an hour), estimated")
    lines.append(
        f"  {'stage':<18} {'trained':>9} {'sampled':>9} {'steps':>9} {'memory':>9} "
        f"{'hours':>7} {'$':>8}"
    )
    for cost in costs:
        note = "  does not fit" if cost.memory > gpu.memory else ""
        done = cost.work
        lines.append(
            f"  {cost.stage:<18} {done.trained / 1e6:>7,.0f} M {done.sampled / 1e6:>7,.0f} M "
            f"{done.decoding / 1e3:>7,.0f} k {cost.memory:>6.0f} GB {cost.hours:>7.1f} "
            f"{cost.dollars:>8.2f}{note}"
        )
    total, dollars = sum(c.hours for c in costs), sum(c.dollars for c in costs)
    lines += [f"  {'all':<18} {total:>55.1f} {dollars:>8.2f}"]
    lines += ["  steps: decoding steps that follow one another", "", "Assumed"]
    return "\n".join([*lines, *(f"  - {line}" for line in ASSUMPTIONS)])
