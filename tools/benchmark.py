"""Measure what the course's own code gains over the obvious way, on this machine.

    python -m tools.benchmark rollouts [--run runs/nano] [--repeats 5]
    python -m tools.benchmark answers [--math FOLDER]
    python -m tools.benchmark training [--seed 0,1,2]
    python -m tools.benchmark curation [--repeats 5]

``rollouts``: completion tokens per second of `generation.complete` against
transformers' ``generate`` at its best batch size, same model, prompts and budget.
``answers``: answers checked per second by `answers.grade` against calling math-verify
on each, with the verdicts that differ.
``training``: seconds until 80 % of fresh `in_distribution` problems are solved, sampled,
from random weights, for four sets of settings on the same model and data; this course
trains with `sft.make_trainer`, the others with TRL's own.
``curation``: rows per second and peak memory of `mixture.collect` against a collector that
goes row by row through JSON chunks, on the same 60,000 conversations; and what each check
costs.

The sides take turns, so that a machine that slows down slows all of them; every ratio
is printed as median [lowest, highest]. Nothing here is a test: it times things.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trlm_utils.files import CourseError, runs_root
from trlm_utils.runner import pipeline

BATCHES = (64, 128, 256, 512)  # tried for plain generate


def rate(work: Callable[[], int]) -> float:
    """Units of work per second of one call; ``work`` returns how many it did."""
    began = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - began)


def compare(sides: dict[str, Callable[[], int]], repeats: int) -> dict[str, list[float]]:
    """Rates of several sides that take turns, after one uncounted turn each."""
    for work in sides.values():
        work()
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            rates[name].append(rate(work))
    return rates


def line(name: str, values: Sequence[float], unit: str = "") -> str:
    """``name  median [lowest, highest] unit``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{name:<34} {middle:12,.1f} [{low:,.1f}, {high:,.1f}] {unit}"


# --- rollouts ---------------------------------------------------------------------


def plain_generate(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], budget: int, batch: int
) -> int:
    """Sample with transformers' ``generate``; returns the number of completion tokens."""
    import torch

    end, pad, total = tokenizer.eos_token_id, tokenizer.pad_token_id, 0
    ordered = sorted(prompts, key=len)
    for first in range(0, len(ordered), batch):
        inputs = tokenizer.pad(
            {"input_ids": ordered[first : first + batch]}, padding_side="left", return_tensors="pt"
        )
        with torch.no_grad():
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=budget,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                eos_token_id=end,
                pad_token_id=pad,
            )
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            total += row.index(end) + 1 if end in row else len(row)
    return total


def rollouts(run: Path, repeats: int, groups: int = 64, size: int = 8, budget: int = 160) -> None:
    """Print tokens per second of both ways of sampling, and their ratio."""
    from trlm_utils import chat, generation, machine, models, nanoworld

    model, tokenizer = models.load_model(run / "04_dpo" / "model")
    machine.limit_threads(model)
    model.eval()
    problems = nanoworld.make_problems("benchmark", groups, long_share=0.5)
    texts = [chat.render(tokenizer, chat.to_prompt(p.question), prompt=True) for p in problems]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompts = [ids for ids in encoded for _ in range(size)]
    ids = {"end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}

    def ours() -> int:
        drawn = generation.complete(model, prompts, max_new_tokens=budget, **ids)
        return sum(map(len, drawn))

    def generate(batch: int) -> Callable[[], int]:
        return lambda: plain_generate(model, tokenizer, prompts, budget, batch)

    sides = {f"generate, batch {batch}": generate(batch) for batch in BATCHES}
    rates = compare({"generation.complete": ours} | sides, repeats)
    print(f"{len(prompts)} completions of {groups} prompts, budget {budget}, {repeats} turns")
    for name, values in rates.items():
        print(line(name, values, "completion tokens/s"))
    best = max(sides, key=lambda name: statistics.median(rates[name]))
    ratios = [a / b for a, b in zip(rates["generation.complete"], rates[best], strict=True)]
    print(line(f"times {best}", ratios))


# --- answers ----------------------------------------------------------------------


def math_verify_alone(reply: str, gold: str) -> bool:
    """The obvious way: math-verify on the whole reply, gold first."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(reply)))


def answer_pairs(folder: Path | None) -> dict[str, list[tuple[str, str]]]:
    """(reply, gold) pairs: whole numbers, and the answers of MATH-500 where given."""
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
    """Print answers per second of both checkers, their ratio and their agreement."""
    from trlm_utils import answers

    for name, pairs in answer_pairs(folder).items():

        def ours(pairs: list[tuple[str, str]] = pairs) -> int:
            answers.forget()  # each turn from nothing
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


# --- training ---------------------------------------------------------------------

TARGET, ROWS, LOOKS = 0.80, 48_000, 20
PATIENCE = 6.0  # the others are stopped after so many times this course's seconds
RATE = 5.0e-3  # AdamW's rate for all: published ones are for models 1,000 times larger


def training_settings() -> dict[str, dict[str, Any]]:
    """What differs between the four.

    ``matrix_rate`` stands for Muon, ``lean`` for `sft.make_trainer`, which computes
    the same loss with less work.
    """
    trlm = {
        "per_device_train_batch_size": 32,
        "gradient_checkpointing": True,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "neftune_noise_alpha": 0.01,
    }
    return {
        "this course": {
            "per_device_train_batch_size": 32,
            "assistant_only_loss": True,
            "gradient_checkpointing": False,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
            "matrix_rate": 0.015,
            "lean": True,
        },
        # batch 8, linear decay, loss on all tokens, checkpointing: as SFTConfig has them
        "TRL's defaults": {},
        # 128 rows a step, as published
        "trlm's settings": trlm | {"gradient_accumulation_steps": 4},
        "trlm's, 32 rows a step": trlm,
    }


def stop_at_target(
    model: Any, tokenizer: Any, problems: Sequence[Any], every: int, limit: float
) -> Any:
    """A callback that stops training at the target, or after ``limit`` seconds of it.

    The clock stands still while the callback looks at the model's accuracy.
    """
    from transformers import TrainerCallback

    from trlm_utils import answers, chat, generation

    prompts = [chat.render(tokenizer, chat.to_prompt(p.question), prompt=True) for p in problems]

    class StopAtTarget(TrainerCallback):
        began, looking, reached, accuracy = 0.0, 0.0, False, 0.0

        @property
        def seconds(self) -> float:
            return time.perf_counter() - self.began - self.looking

        def on_train_begin(self, args, state, control, **kwargs):  # noqa: ANN001
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):  # noqa: ANN001
            control.should_training_stop |= self.seconds > limit
            if state.global_step % every:
                return
            start = time.perf_counter()
            drawn = generation.sample(model, tokenizer, prompts, max_new_tokens=120)
            right = [
                bool(answers.grade(d.text, p.answer)) for d, p in zip(drawn, problems, strict=True)
            ]
            self.accuracy = sum(right) / len(right)
            self.reached = self.accuracy >= TARGET
            control.should_training_stop |= self.reached
            self.looking += time.perf_counter() - start

    return StopAtTarget()


def time_to_target(
    settings: dict[str, Any], seed: int, folder: Path, limit: float
) -> tuple[bool, float, float]:
    """Train until the target, the end of the data or ``limit`` seconds.

    Returns:
        Whether the target was reached, seconds of training, and the last accuracy.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from trlm_utils import models, nanoworld, tokenization
    from trlm_utils.curation import data_sets
    from trlm_utils.training import callbacks, optimizers, sft

    settings = dict(settings)
    matrix_rate = settings.pop("matrix_rate", 0.0)
    build = sft.make_trainer if settings.pop("lean", False) else SFTTrainer
    tokenizer = tokenization.build_tokenizer(nanoworld.sample_text())
    model = models.build_model(tokenizer, seed=seed)
    rows = data_sets.world_thinking(ROWS, seed, {"careful": 1.0}, 0.08)
    config = SFTConfig(
        output_dir=str(folder),
        **{"learning_rate": RATE, "max_length": 256, "seed": seed, "bf16": False} | settings,
        num_train_epochs=1,  # schedules end with the data; the default is three passes
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1000,
        disable_tqdm=True,
    )
    optimizer = optimizers.muon(model, RATE, matrix_rate) if matrix_rate else None
    trainer = build(
        model,
        args=config,
        train_dataset=Dataset.from_list([{"messages": row["messages"]} for row in rows]),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
    )
    every = ROWS // config.per_device_train_batch_size // LOOKS
    problems = nanoworld.make_problems("benchmark", 200, held_out=True)
    stop = stop_at_target(model, tokenizer, problems, every, limit)
    callbacks.quiet(trainer, []).add_callback(stop)
    trainer.train()
    return stop.reached, stop.seconds, stop.accuracy


def training_times(seeds: Sequence[int]) -> None:
    """Print the time to the target for each set of settings, and its ratio to ours.

    A set of settings that does not reach the target counts with the time it was given
    (all data, or `PATIENCE` times this course's seconds), so that its ratio is a lower
    bound; the line says so.
    """
    import tempfile

    from trlm_utils import machine

    machine.limit_threads()
    print(f"seconds until {TARGET:.0%} sampled, at most {ROWS:,} problems")
    times: dict[str, list[float]] = {name: [] for name in training_settings()}
    missed = dict.fromkeys(times, 0)
    for seed in seeds:
        limit = float("inf")
        for name, settings in training_settings().items():  # this course first
            with tempfile.TemporaryDirectory() as folder:
                reached, seconds, accuracy = time_to_target(settings, seed, Path(folder), limit)
            times[name].append(seconds)
            limit = PATIENCE * times["this course"][-1]
            missed[name] += not reached
            print(f"  seed {seed}  {name:<18} {seconds:6.0f} s, {accuracy:.0%}", flush=True)
    ours = times["this course"]
    for name, found in times.items():
        ratios = [b / a for a, b in zip(ours, found, strict=True)]
        note = f"at least: {missed[name]} of {len(seeds)} did not get there" * bool(missed[name])
        print(line(f"{name}, times this course's", ratios, note), flush=True)


# --- curation ---------------------------------------------------------------------

CHATS, CHUNK = 60_000, 5_000


def write_chats(path: Path, rows: int) -> None:
    """A JSONL file of conversations: three rounds, each of four problems (about 2.5 kB).

    Each ends in the answer of its last problem, a word or a number.
    """
    from trlm_utils import chat, nanoworld

    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            turns = []
            for first in range(12 * i, 12 * i + 12, 4):
                problems = [nanoworld.make_problem("chats", k) for k in range(first, first + 4)]
                asked = " ".join(p.question for p in problems)
                thought = " ".join(nanoworld.careful_trace(p) for p in problems)
                answer = problems[-1].answer
                turns += chat.to_messages(asked, chat.think(thought, nanoworld.answer_text(answer)))
            row = {"messages": turns, "answer": answer, "chat_template_kwargs": {"a": "b"}}
            file.write(json.dumps(row | {"source": "chats"}) + "\n")


def collect_row_by_row(path: Path, folder: Path) -> int:
    """The obvious way, and the original trlm's: stream rows, dump chunks as JSON, read
    them back into one data set, and shuffle that."""
    from datasets import Dataset, concatenate_datasets, load_dataset

    stream = load_dataset("json", data_files=str(path), split="train", streaming=True)
    chunk: list[dict[str, Any]] = []
    places: list[Path] = []

    def dump() -> None:
        places.append(folder / f"{len(places)}.json")
        with places[-1].open("w", encoding="utf-8") as file:
            json.dump(chunk, file)
        chunk.clear()

    for row in stream:
        row = dict(row)
        row.pop("chat_template_kwargs", None)
        row |= {"_source_dataset": str(path), "_source_subset": "", "_source_split": "train"}
        chunk.append(row)
        if len(chunk) == 1000:
            dump()
    if chunk:
        dump()
    parts = [Dataset.from_list(json.loads(place.read_text("utf-8"))) for place in places]
    return len(concatenate_datasets(parts).shuffle(seed=0))


def collect_mixture(path: Path, folder: Path, checks: dict[str, Any]) -> int:
    """This course's way; every row passes every check, so that all are written."""
    from trlm_utils import nanoworld, tokenization
    from trlm_utils.curation import mixture

    source = {"path": str(path), "split": "train", "drop_columns": ["chat_template_kwargs"]}
    spec = {"sources": [source], "checks": {"duplicates": False} | checks}
    needs: dict[str, Any] = {}
    if "verified" in checks:
        source["columns"] = {"answer": "answer"}
    if "max_tokens" in checks:
        needs["tokenizer"] = tokenization.build_tokenizer(nanoworld.sample_text())
    if "contamination" in checks:
        needs["questions"] = [" ".join(f"{i} {k}" for k in range(20)) for i in range(1000)]
    counts = mixture.collect("sft_stage1", spec, folder, shard_rows=CHUNK, **needs)["counts"]
    return sum(count["read"] for count in counts.values())


def _measured(queue: Any, name: str, path: str, checks: dict[str, Any]) -> None:
    """One collection in a process of its own: rows per second, and peak memory in MiB."""
    import tempfile

    import pyarrow.parquet  # noqa: F401  (loading libraries is not collecting)
    import tqdm.auto  # noqa: F401
    from datasets import load_dataset  # noqa: F401

    from trlm_utils.curation import mixture  # noqa: F401
    from trlm_utils.machine import peak_memory_mb

    small = Path(path).with_name("few.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / part for part in ("few", "all")]
        for place, file in zip(places, (small, Path(path)), strict=True):
            place.mkdir()
            began = time.perf_counter()
            if name == "row by row":
                rows = collect_row_by_row(file, place)
            else:
                rows = collect_mixture(file, place, checks)
            seconds = time.perf_counter() - began
    queue.put((rows / seconds, peak_memory_mb()))


CHECKS: dict[str, dict[str, Any]] = {
    "duplicates": {"duplicates": True},
    "contract": {"contract": "think_format"},
    "verified": {"verified": True},
    "contamination": {"contamination": 13},
    "max_tokens": {"max_tokens": 100_000},
    "language": {"language": ["en"]},
    "near_duplicates": {"near_duplicates": 0.9},
}


def curation(repeats: int, chats: int = CHATS) -> None:
    """Print rows per second and peak memory of both collectors, and the cost of checks."""
    import multiprocessing
    import tempfile

    context = multiprocessing.get_context("spawn")

    def measure(name: str, checks: dict[str, Any]) -> tuple[float, float]:
        queue = context.Queue()
        process = context.Process(target=_measured, args=(queue, name, str(path), checks))
        process.start()
        found = queue.get()
        process.join()
        return found

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.jsonl"
        write_chats(path, chats)
        write_chats(path.with_name("few.jsonl"), 200)
        print(f"{chats} conversations, {path.stat().st_size / 1e6:.0f} MB, {repeats} turns")
        found: dict[str, list[tuple[float, float]]] = {"mixture.collect": [], "row by row": []}
        for _ in range(repeats):
            for name in found:
                found[name].append(measure(name, {}))
        for name, values in found.items():
            print(line(name, [rate for rate, _ in values], "rows/s"))
            print(line(f"{name}, peak", [memory for _, memory in values], "MiB"))
        rates = [[rate for rate, _ in values] for values in found.values()]
        print(line("times row by row", [a / b for a, b in zip(*rates, strict=True)]))
        plain = statistics.median(rates[0])
        for name, checks in CHECKS.items():
            rate, _ = measure("mixture.collect", checks)
            cost = 1e6 / rate - 1e6 / plain
            print(line(f"check {name}", [max(0.0, cost)], "microseconds a row more"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark")
    parser.add_argument("what", choices=["rollouts", "answers", "training", "curation"])
    parser.add_argument("--run", type=Path, default=None, help="a finished run (rollouts)")
    parser.add_argument("--math", type=Path, default=None, help="folder with MATH-500's test.json")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", default="0,1,2", help="one, or several (training)")
    options = parser.parse_args(arguments)
    try:
        if options.repeats < 1:
            raise ValueError(f"--repeats {options.repeats}: must be 1 or more")
        if options.what == "rollouts":
            run = options.run or runs_root() / "nano"
            if not (run / "04_dpo" / "manifest.json").is_file():
                raise CourseError(f"{run} holds no finished 04_dpo: run `make course` first")
            rollouts(run, options.repeats)
        elif options.what == "curation":
            curation(options.repeats)
        elif options.what == "training":
            training_times(pipeline.parse_seeds(options.seed))
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
