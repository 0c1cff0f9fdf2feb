"""The amount of work of a stage, from its recipe: tokens trained on, read and sampled.

It does not depend on the machine; `estimate.seconds` converts work into time. For NanoWorld
some rows are generated and their tokens counted; for other data sets the mean length is
derived from the recipe's token budgets.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trlm_utils import chat, nanoworld, tokenization
from trlm_utils.curation import data_sets, dirt
from trlm_utils.evaluation import suites
from trlm_utils.runner.recipes import Plan, StagePlan

FULL = 0.5  # assumed mean length of rows and completions, as a share of the token budget
COUNTED = 200  # number of NanoWorld rows whose tokens are counted
LOOKED_AT = 150  # prompts with which notebooks 03 and 04 test a model
FRESH = 200  # questions with which notebooks 00 and 02 test a model
CLEANING = 3  # models that notebook 01 trains on a dirty mixture: dirty, fewer rows, cleaned
LIVE_BUDGET = 130  # tokens of a completion in notebook 13
LIVE_LENGTHS = (1, 1, 1, 1, 2, 2, 2, 2)  # relative frequency of 1, 2, ... steps in its prompts
# Notebooks whose cells train with settings of their own.
OWN_SETTINGS = {
    "01_data_curation": {"BATCH_SIZE": 16, "MAX_LENGTH": 320},
    "11_reward_models": {},
    "13_reward_lab": {"BATCH_SIZE": 128, "MAX_LENGTH": 512 + LIVE_BUDGET},
    "14_signals": {},
}


@dataclass(frozen=True)
class Work:
    """The amount of work of one stage.

    Attributes:
        trained: tokens in training, without padding.
        padded: tokens in training, with the padding that the trainer computes too.
        passes: number of forward and backward passes.
        read: tokens in forward passes without a backward pass.
        sampled: tokens sampled.
        decoding: sequential decoding steps, each for a whole batch of completions.
        rows: rows prepared for training: rendered, tokenized and checked.
    """

    stage: str
    trained: float = 0.0
    padded: float = 0.0
    passes: float = 0.0
    read: float = 0.0
    sampled: float = 0.0
    decoding: float = 0.0
    rows: float = 0.0


def drawn(completions: float, budget: int, together: int) -> tuple[float, float]:
    """Tokens and sequential decoding steps of completions sampled in batches of ``together``.

    A batch runs until its longest completion ends; this is assumed to use the whole budget.
    """
    return completions * budget * FULL, math.ceil(completions / together) * budget


def of_plan(plan: Plan, together: Callable[[StagePlan], int], packs: bool = False) -> list[Work]:
    """The work of every stage that trains or samples.

    Args:
        together: function that returns a stage's largest batch of completions.
        packs: whether SFT with its plain loss packs rows instead of padding them (on a CPU).
    """
    made = {stage.stage: stage for stage in plan.stages}
    found = []
    for stage in plan.stages:
        source = made.get(stage.parameters.get("DATA_FROM", ""))
        count = BY_NOTEBOOK.get(stage.notebook.stem)
        if count:
            found.append(count(stage, source, together(stage), packs))
    return [work for work in found if work.trained or work.sampled]


def settings_of(stage: StagePlan) -> dict[str, Any]:
    """A stage's parameters, and what its notebook's cells set themselves."""
    return OWN_SETTINGS.get(stage.notebook.stem, {}) | stage.parameters


def trains(stage: StagePlan) -> bool:
    """Whether a stage trains a model: optimizer states are held."""
    return "MAX_STEPS" in stage.parameters or stage.notebook.stem in OWN_SETTINGS


# --- data ---------------------------------------------------------------------------


def rows_of(source: StagePlan | None, data_set: str) -> float:
    """Number of rows of a data set, from the parameters of its stage (0 if unknown)."""
    values = source.parameters if source else {}
    if values.get("SOURCE") == "mixture":
        spec = values["MIXTURE"].get(data_set, {"sources": ()})
        return sum(
            part.get("rows") or part.get("share", 0) * spec.get("rows", 0)
            for part in spec["sources"]
        )
    names = {"sft_stage1": "STAGE1_ROWS", "sft_stage2": "STAGE2_ROWS"}
    names["grpo_prompts"] = "GRPO_PROMPTS"
    return values.get(names.get(data_set, "PREFERENCE_ROWS"), 0)


def of_nanoworld(source: StagePlan | None, data_set: str) -> bool:
    """Whether a data set's rows are from NanoWorld, so that they can be generated and counted."""
    values = source.parameters if source else {}
    if values.get("SOURCE") != "mixture":
        return values.get("SOURCE") == "nanoworld"
    parts = values["MIXTURE"].get(data_set, {}).get("sources", ())
    return all("nanoworld" in part for part in parts)


@functools.cache
def nanoworld_tokens(kind: str, lengths: tuple[float, ...] = (1,)) -> float:
    """Mean number of tokens of a NanoWorld row; ``kind`` is base, direct, thinking or prompt.

    Args:
        lengths: relative frequency of 1, 2, 3, ... steps; a direct answer has one.
    """
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text())
    if kind == "base":
        problems = nanoworld.make_problems("base", COUNTED, seed=0, lengths=lengths)
        rows = [nanoworld.plain_row(problem) for problem in problems]
        texts = [row["prompt"] + row["completion"] for row in rows]
    elif kind == "prompt":
        rows = data_sets.world_prompts("grpo", COUNTED, 0, lengths)
        texts = [chat.render(tokenizer, row["prompt"], prompt=True) for row in rows]
    else:
        rows = data_sets.world_direct(COUNTED, 0, 0.15, 1)
        if kind == "thinking":
            rows = data_sets.world_thinking(COUNTED, 0, {"careful": 0.7, "hasty": 0.3}, lengths)
        texts = [chat.render(tokenizer, row["messages"]) for row in rows]
    return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) / len(texts)


def row_tokens(stage: StagePlan, source: StagePlan | None, data_set: str) -> float:
    """Mean number of tokens of a stage's training row."""
    longest = stage.parameters["MAX_LENGTH"]
    if not of_nanoworld(source, data_set):
        return FULL * longest
    direct = data_set == "sft_stage1" and source.parameters["SOURCE"] == "nanoworld"
    if direct:
        return min(longest, nanoworld_tokens("direct"))
    return min(longest, nanoworld_tokens("thinking", tuple(source.parameters["STAGE2_STEPS"])))


def prompt_tokens(source: StagePlan | None) -> float:
    """Mean number of tokens of a prompt for rollouts."""
    values = source.parameters if source else {}
    if of_nanoworld(source, "grpo_prompts"):
        return nanoworld_tokens("prompt", tuple(values["PROMPT_STEPS"]))
    checks = (values.get("MIXTURE") or {}).get("grpo_prompts", {}).get("checks", {})
    return FULL * checks.get("max_tokens", values.get("MAX_TOKENS", 512))


# --- stages -------------------------------------------------------------------------


def steps_of(stage: StagePlan, rows: float) -> float:
    """Number of optimizer steps of a training on so many rows."""
    values = stage.parameters
    if values["MAX_STEPS"] > 0:
        return values["MAX_STEPS"]
    return rows * values["EPOCHS"] / (values["BATCH_SIZE"] * values.get("ACCUMULATION", 1))


def _training(stage: StagePlan, rows: float, mean: float, packs: bool, sides: int = 1) -> Work:
    """Training on rows of ``mean`` tokens; a batch is padded to its longest row."""
    values = stage.parameters
    batch, steps = values["BATCH_SIZE"] * sides, steps_of(stage, rows)
    passes = steps * values.get("ACCUMULATION", 1)
    longest = mean if packs or batch == 1 else min(mean / FULL, values["MAX_LENGTH"])
    trained = passes * batch * mean
    return Work(stage.stage, trained, passes * batch * longest, passes, rows=rows * sides)


def _with_draws(work: Work, *draws: tuple[float, float]) -> Work:
    sampled = work.sampled + sum(tokens for tokens, _ in draws)
    decoding = work.decoding + sum(steps for _, steps in draws)
    return replace(work, sampled=sampled, decoding=decoding)


def base(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """00: pretraining on plain text; 200 questions answered, a fifth of them twice more."""
    values, work = stage.parameters, Work(stage.stage)
    if not values["BASE_MODEL"] and (values["BASE_PROBLEMS"] or values["TEXT_FROM"]):
        mean = FULL * values["MAX_LENGTH"]
        if not values["TEXT_FROM"]:
            mean = min(nanoworld_tokens("base", tuple(values["STEPS"])), values["MAX_LENGTH"])
        work = _training(stage, values["BASE_PROBLEMS"], mean, packs)
    some = drawn(FRESH / 5, 100, together)
    return _with_draws(work, drawn(FRESH, 100, together), some, some)


def sft(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """02 and 03: SFT on conversations, and sampled replies to test the model."""
    values = stage.parameters
    data_set = values["DATASET"]
    mean = row_tokens(stage, source, data_set)
    plain = packs and values["LOSS_TYPE"] == "nll"
    work = _training(stage, rows_of(source, data_set), mean, plain)
    if "MAX_NEW_TOKENS" not in values:
        return _with_draws(work, drawn(FRESH, 40, together))
    return _with_draws(work, *[drawn(LOOKED_AT, values["MAX_NEW_TOKENS"], together)] * 3)


def dpo(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """04: preference pairs, sampled or read; both replies trained on, and the reference model."""
    values, budget = stage.parameters, stage.parameters["MAX_NEW_TOKENS"]
    draws = [drawn(LOOKED_AT, budget, together)] * 2
    rows = rows_of(source, "preferences")
    if values["PAIRS"] == "on_policy":
        prompts = source.parameters["DPO_PROMPTS"]
        draws.append(drawn(prompts * values["SAMPLES"], budget, together))
        rows = prompts * values["PAIRS_PER_PROMPT"]  # upper bound: every prompt gives all pairs
    data_set = "preferences" if values["PAIRS"] == "dataset" else "sft_stage2"
    work = _training(stage, rows, row_tokens(stage, source, data_set), False, sides=2)
    return _with_draws(replace(work, read=work.padded), *draws)


def probe(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """05: a few groups of completions, sampled and scored."""
    values = stage.parameters
    completions = values["PROBE_PROMPTS"] * values["GROUP_SIZE"]
    return _with_draws(Work(stage.stage), drawn(completions, values["MAX_NEW_TOKENS"], together))


def rollouts(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """06 and 12: rollouts, training on them, and regular evaluation on held-out prompts.

    In TRL, MAX_STEPS counts optimizer steps, with new rollouts every ITERATIONS of them. Our
    PPO samples new rollouts for every step and trains on them ITERATIONS times, with a critic
    in addition to the policy.
    """
    values, budget = stage.parameters, stage.parameters["MAX_NEW_TOKENS"]
    steps, size = values["MAX_STEPS"], values["PROMPTS_PER_STEP"] * values["GROUP_SIZE"]
    if steps < 1:  # then TRL's default of three epochs
        steps = 3 * rows_of(source, "grpo_prompts") // values["PROMPTS_PER_STEP"]
    ppo = values.get("METHOD") == "ppo"
    again = values["ITERATIONS"] if ppo or "METHOD" not in values else 1
    draws = steps if ppo else math.ceil(steps / again)
    asked = prompt_tokens(source)
    mean, longest = asked + budget * FULL, asked / FULL + budget
    updates = steps * (again * 2 if ppo else 1)  # times 2: the critic is as large as the policy
    micro = values.get("MICRO_BATCH", size)
    if micro == 1:
        longest = mean
    looks = 2 if ppo else (again > 1) + bool(values.get("KL_BETA"))  # old policy, reference model
    work = Work(
        stage.stage,
        trained=updates * size * mean,
        padded=updates * size * longest,
        passes=updates * size / micro,
        read=looks * draws * size * longest,
    )
    tokens, decoding = drawn(size, budget, together)
    held_out = drawn(data_sets.CHECK_PROMPTS, budget, together)
    times = 1 + steps // values["LOOK_EVERY"]
    parts = [(draws * tokens, draws * decoding), (times * held_out[0], times * held_out[1])]
    if "PROBE_PROMPTS" in values:
        parts.append(drawn(values["PROBE_PROMPTS"] * values["GROUP_SIZE"], budget, together))
    return _with_draws(work, *parts)


def evaluation(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """07: replies of all models to the course's own questions and to those of suites."""
    values = stage.parameters
    budget, samples, models = values["MAX_NEW_TOKENS"], values["SAMPLES"], len(values["EVALUATE"])
    together = min(together, values["EVAL_BATCH"])
    draws = []
    if "nano" in values["SUITES"]:
        asked = own_questions(values, source)
        draws += [drawn(models * asked, budget, together)]
        draws += [drawn(models * asked * samples, budget, together)]
        if plain := values["PLAIN_SAMPLES"]:
            draws += [drawn(models * asked * (1 + plain), budget, together)]
        passed = len(set(values["PASS_STAGES"]) & set(values["EVALUATE"]))
        questions = len(values["PASS_BANDS"]) * values["PASS_QUESTIONS"] * passed
        draws += [drawn(questions * values["PASS_SAMPLES"], budget, together)]
    for name in values["SUITES"]:
        if name != "nano":
            suite = suites.load(name)
            replies = suite.replies(values["TASKS"], samples, values["SUITE_QUESTIONS"])
            draws += [drawn(models * replies, budget, together)]
    return _with_draws(Work(stage.stage), *draws)


def own_questions(values: dict, source: StagePlan | None) -> int:
    """Number of the data stage's questions that 07 asks every model."""
    made = source.parameters if source else {}
    bands = ["gsm8k_test"] if made.get("SOURCE") == "gsm8k" else list(nanoworld.BANDS)
    if made.get("SOURCE") == "mixture":
        parts = made["MIXTURE"].get("eval", {}).get("sources", ())
        bands += [part["band"] for part in parts if "band" in part]
    taken = set(values["BANDS"] or bands)
    return len(taken & set(bands)) * made.get("EVAL_PER_BAND", 0)


def curation(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """01: a model trained on each arm of the dirty mixture, then asked."""
    values, rows = stage.parameters, stage.parameters["DIRT_ROWS"]
    if values["SOURCE"] != "nanoworld" or not rows or not values["MODEL_FROM"]:
        return Work(stage.stage)
    kinds = len(dirt.SHARES) + 1 if values["DIRT_KINDS"] else 0  # half the rows each
    trainings = (CLEANING + kinds / 2) * len(values["DIRT_SEEDS"])
    trained = trainings * rows * nanoworld_tokens("thinking", tuple(dirt.LENGTHS))
    passes = trainings * rows / settings_of(stage)["BATCH_SIZE"]
    padded = trained if packs else trained / FULL
    work = Work(stage.stage, trained, padded, passes, rows=trainings * rows)
    asked = (min(200, rows // 10), dirt.LEAKS)  # each greedily once, and four times
    draws = [drawn(times * number, 64, together) for number in asked for times in (1, 4)]
    return _with_draws(work, *((trainings * t, trainings * steps) for t, steps in draws))


def judges(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """11: a model of outcomes, trained on both replies of pairs, and one of steps."""
    values, mean = stage.parameters, nanoworld_tokens("thinking", (1, 1, 1, 1))
    rows = values["EPOCHS"] * (2 * values["PAIRS_KEPT"] + values["PROCESS_ROWS"])
    passes = values["EPOCHS"] * (values["PAIRS_KEPT"] + values["PROCESS_ROWS"])
    passes /= values["BATCH_SIZE"]
    longest = min(mean / FULL, values["MAX_LENGTH"])
    return Work(stage.stage, rows * mean, rows * longest, passes, rows=rows)


def live(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """13: two short trainings with GRPO, 128 completions a step, 64 held-out questions."""
    steps, size = 2 * stage.parameters["LIVE_STEPS"], settings_of(stage)["BATCH_SIZE"]
    mean = nanoworld_tokens("prompt", LIVE_LENGTHS) + LIVE_BUDGET * FULL
    tokens, decoding = drawn(size, LIVE_BUDGET, together)
    work = Work(stage.stage, steps * size * mean, steps * size * mean / FULL, steps)
    held_out = drawn(64, LIVE_BUDGET, together)
    looks = steps // 5 + 2 * bool(steps)
    return _with_draws(
        work, (steps * tokens, steps * decoding), (looks * held_out[0], looks * held_out[1])
    )


def signals(stage: StagePlan, source: StagePlan | None, together: int, packs: bool) -> Work:
    """14: completions drawn and trained on, at most all of them; a teacher reads them."""
    values, budget = stage.parameters, stage.parameters["MAX_NEW_TOKENS"]
    rounds = values["SIGNAL"] in ("rejection", "random")
    rows, batch = values["PROMPTS"] * values["SAMPLES"], values["BATCH_SIZE"]
    draws = values["ROUNDS"] if rounds else math.ceil(rows / batch)
    mean = prompt_tokens(source) + budget * FULL
    padded = rows * (mean if rounds and packs else mean / FULL)
    work = Work(stage.stage, rows * mean, padded, rows / batch, read=0 if rounds else padded)
    tokens, decoding = drawn(rows / draws, budget, together)
    held_out = drawn(data_sets.CHECK_PROMPTS, budget, together)
    looks = 1 + (draws if rounds else draws // values["LOOK_EVERY"])
    return _with_draws(
        work, (draws * tokens, draws * decoding), (looks * held_out[0], looks * held_out[1])
    )


# Notebook -> function that counts its work; 09 and 10 only read, 08 asks on the CPU.
BY_NOTEBOOK = {
    "00_start_here": base,
    "01_data_curation": curation,
    "02_sft_stage1": sft,
    "03_sft_stage2": sft,
    "04_dpo": dpo,
    "05_grpo_rewards": probe,
    "06_grpo": rollouts,
    "07_evaluation": evaluation,
    "11_reward_models": judges,
    "12_algorithms": rollouts,
    "13_reward_lab": live,
    "14_signals": signals,
}
