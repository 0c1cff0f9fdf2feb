"""Measure how much faster the course's own code is than a baseline, on this machine.

    python -m tools.benchmark rollouts [--run runs/nano] [--repeats 5]
    python -m tools.benchmark real-rollouts [--run runs/smollm2-cpu] [--repeats 3]
    python -m tools.benchmark answers [--math FOLDER]
    python -m tools.benchmark training [--seed 0,1,2]
    python -m tools.benchmark curation [--repeats 5]

``rollouts``: completion tokens per second of `generation.complete`, compared with
transformers' ``generate`` at its best batch size, with the same model, prompts and budget.
``real-rollouts``: the same of a real model, in float32 and in bfloat16, and with transformers'
continuous batching (``generate_batch``).
``answers``: answers checked per second by `answers.grade`, compared with math-verify on each
answer; also the answers on which both disagree.
``training``: seconds from random weights until 80 % of new `in_distribution` problems are
solved (sampled), for four sets of settings on the same model and data. The course's settings
use `sft.make_trainer`, the others TRL's trainer.
``curation``: rows per second and peak memory of `mixture.collect`, compared with a collector
that goes row by row through JSON chunks, on the same 60,000 conversations; and the cost of
each check.

The compared variants take turns, so that a slower phase of the machine affects all of them.
Every ratio is printed as median [lowest, highest]. These are measurements, not tests.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.curation_benchmark import curation
from tools.training_benchmark import training_times
from tools.turns import compare, line
from trlm_utils.files import CourseError, read_rows, runs_root
from trlm_utils.runner import command

BATCHES = (64, 128, 256, 512)  # batch sizes to try for generate


# --- rollouts ---------------------------------------------------------------------


def repeated(tokenizer: Any, asked: Sequence[Any], size: int) -> list[list[int]]:
    """Token ids of prompts (messages), each as often as it is completed."""
    from trlm_utils import chat

    texts = [chat.render(tokenizer, messages, prompt=True) for messages in asked]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [ids for ids in encoded for _ in range(size)]


def rollouts(run: Path, repeats: int, groups: int = 64, size: int = 8, budget: int = 160) -> None:
    """Print tokens per second of both ways to sample, and their ratio."""
    from trlm_utils import chat, machine, models, nanoworld

    model, tokenizer = models.load_model(run / "04_dpo" / "model")
    machine.limit_threads(model)
    model.eval()
    problems = nanoworld.make_problems("benchmark", groups, lengths=nanoworld.between(1, 6))
    prompts = repeated(tokenizer, [chat.to_prompt(p.question) for p in problems], size)
    given = (model, tokenizer, prompts, budget)
    plain = functools.partial(drawn, "generate", *given)
    sides = {f"generate, batch {b}": functools.partial(plain, b) for b in BATCHES}
    ours = functools.partial(drawn, "course", *given, None)
    rates = compare({"generation.complete": ours} | sides, repeats)
    print(f"{len(prompts)} completions of {groups} prompts, budget {budget}, {repeats} turns")
    for name, values in rates.items():
        print(line(name, values, "completion tokens/s"))
    best = max(sides, key=lambda name: statistics.median(rates[name]))
    ratios = [a / b for a, b in zip(rates["generation.complete"], rates[best], strict=True)]
    print(line(f"times {best}", ratios))


def drawn(
    engine: str, model: Any, tokenizer: Any, prompts: Any, budget: int, batch: int | None
) -> int:
    """Sample with one of `samplers`; returns the number of completion tokens."""
    from trlm_utils import samplers

    ids = {"end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    given = {"max_new_tokens": budget, "batch_size": batch}
    return sum(map(len, samplers.named(engine)(model, prompts, **given, **ids)))


DRAWN_BY = {
    "generation.complete": "course",
    "generate": "generate",
    "continuous batching": "transformers",
}


def real_rollouts(run: Path, repeats: int, groups: int = 4, size: int = 8) -> None:
    """Print tokens per second of a real model's rollouts: three ways, two number formats."""
    from trlm_utils import machine, models

    budget = 100
    rows = read_rows(run / "01_data_curation" / "data" / "grpo_prompts.jsonl")[:groups]
    sides: dict[str, Callable[[], int]] = {}
    for dtype in ("float32", "bfloat16"):
        model, tokenizer = models.load_model(run / "04_dpo" / "model", dtype=dtype)
        machine.limit_threads(model)
        model.eval()
        prompts = repeated(tokenizer, [row["prompt"] for row in rows], size)
        given = (model, tokenizer, prompts, budget, len(prompts))
        for name, engine in DRAWN_BY.items():
            sides[f"{name}, {dtype}"] = functools.partial(drawn, engine, *given)
    rates = compare(sides, repeats)
    print(f"{groups * size} completions of {groups} prompts, budget {budget}, {repeats} turns")
    for name, values in rates.items():
        print(line(name, values, "completion tokens/s"))
    best = "generation.complete, bfloat16"
    for name in sides:
        if name != best:
            ratios = [a / b for a, b in zip(rates[best], rates[name], strict=True)]
            print(line(f"{best}, times {name}", ratios))


# --- answers ----------------------------------------------------------------------


def math_verify_alone(reply: str, gold: str) -> bool:
    """The baseline: math-verify on the whole reply, gold answer first."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(reply)))


def answer_pairs(folder: Path | None) -> dict[str, list[tuple[str, str]]]:
    """(reply, gold answer) pairs: whole numbers, and answers of MATH-500 if a folder is given."""
    draw = random.Random(0)
    numbers = []
    for _ in range(2000):
        gold = draw.randint(-999, 99_999)
        said = gold if draw.random() < 0.5 else gold + draw.choice([-10, -1, 1, 100])
        numbers.append((f"The answer is ${said}$.", str(gold)))
    pairs = {"whole numbers": numbers}
    if folder:
        golds = [row["answer"] for row in json.loads((folder / "test.json").read_text())]
        said = zip(golds, golds[1:] + golds[:1], strict=True)
        pairs["MATH-500"] = [
            (rf"The answer is $\boxed{{{answer}}}$.", gold)
            for gold, other in said
            for answer in (gold, other)
        ]
    return pairs


def check_answers(folder: Path | None, repeats: int) -> None:
    """Print answers per second of both checkers, their ratio, and how often they agree."""
    from trlm_utils import answers

    for name, pairs in answer_pairs(folder).items():

        def ours(pairs: list[tuple[str, str]] = pairs) -> int:
            answers.forget()  # each turn starts with empty caches
            for reply, gold in pairs:
                answers.grade(reply, gold)
            return len(pairs)

        def theirs(pairs: list[tuple[str, str]] = pairs) -> int:
            for reply, gold in pairs:
                math_verify_alone(reply, gold)
            return len(pairs)

        rates = compare({"answers.grade": ours, "math-verify on each": theirs}, repeats)
        print(f"{name}: {len(pairs)} replies, {repeats} turns")
        for side, values in rates.items():
            print(line(side, values, "answers/s"))
        print(line("times", [a / b for a, b in zip(*rates.values(), strict=True)]))
        differ = [
            (reply, gold)
            for reply, gold in pairs
            if bool(answers.grade(reply, gold)) != math_verify_alone(reply, gold)
        ]
        print(f"verdicts that differ: {len(differ)}")
        for reply, gold in differ[:20]:
            ours_says = answers.grade(reply, gold)
            print(f"    {reply!r} for {gold!r}: ours {ours_says}, math-verify {not ours_says}")


RUNS = {"rollouts": (rollouts, "nano"), "real-rollouts": (real_rollouts, "smollm2-cpu")}
WHAT = (*RUNS, "answers", "training", "curation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark")
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("--run", type=Path, default=None, help="a finished run (rollouts)")
    parser.add_argument("--math", type=Path, default=None, help="folder with MATH-500's test.json")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", default="0,1,2", help="one, or several (training)")
    options = parser.parse_args(arguments)
    try:
        if options.repeats < 1:
            raise ValueError(f"--repeats {options.repeats}: must be 1 or more")
        if options.what in RUNS:
            measure, recipe = RUNS[options.what]
            run = options.run or runs_root() / recipe
            if not (run / "04_dpo" / "manifest.json").is_file():
                raise CourseError(f"{run} holds no finished 04_dpo: run `make course` first")
            measure(run, options.repeats)
        elif options.what == "curation":
            curation(options.repeats)
        elif options.what == "training":
            training_times(command.parse_seeds(options.seed))
        else:
            if options.math and not (options.math / "test.json").is_file():
                raise CourseError(f"{options.math} holds no test.json")
            check_answers(options.math, options.repeats)
    except (CourseError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
