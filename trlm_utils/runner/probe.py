"""Measure this machine for a few seconds: start-up time, training and decoding speed.

It runs in a separate process. So the runner need not import the libraries, and the time of
these imports is measured as in a stage's kernel.

    python -m trlm_utils.runner.probe
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trlm_utils.files import PROJECT_ROOT, CourseError, read_json, write_json

SECONDS = 1.2  # time of each of the two measurements
MEMORY = ".probe.json"  # file of the last measurement, in the run's folder
KEPT = 1800.0  # seconds for which a measurement is valid
LIMIT = 180.0  # seconds after which the measurement is given up
SIZES = {"HIDDEN_SIZE": 64, "LAYERS": 2, "VOCAB_SIZE": 512}  # parameters of 00_start_here


@dataclass(frozen=True)
class Speed:
    """Speeds of a machine: tokens per second, and seconds until a kernel is ready."""

    training: float
    decoding: float
    startup: float


def known(found: Any) -> Speed | None:
    """The speeds in a dictionary; None if one is missing."""
    names = [field.name for field in fields(Speed)]
    if not isinstance(found, dict) or any(not found.get(name) for name in names):
        return None
    return Speed(*(float(found[name]) for name in names))


def this_machine(sizes: dict[str, int], place: Path) -> Speed | None:
    """Speeds of this machine, measured now or in the last half hour; None if that fails.

    Args:
        sizes: parameters with the model's sizes (`SIZES`); other parameters are ignored.
        place: file of the last measurement.
    """
    sizes = {name: int(sizes.get(name) or usual) for name, usual in SIZES.items()}
    try:
        last = read_json(place)
        if last["sizes"] == sizes and 0 <= time.time() - last["at"] < KEPT:
            return known(last)
    except (CourseError, KeyError, TypeError):
        pass
    arguments = [str(value) for value in (*sizes.values(), time.time())]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trlm_utils.runner.probe", *arguments],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError):
        return None
    write_json(place, found | {"sizes": sizes, "at": time.time()})
    return known(found)


def measure(hidden_size: int, layers: int, vocabulary: int) -> tuple[float, float]:
    """Tokens per second of training steps, and of sampling completions."""
    import torch

    from trlm_utils import generation, machine, models, nanoworld, tokenization

    machine.limit_threads()
    text = nanoworld.sample_text(300)
    tokenizer = tokenization.build_tokenizer(text, vocabulary)
    model = models.build_model(tokenizer, hidden_size=hidden_size, layers=layers)
    ids = torch.randint(5, len(tokenizer), (32, 110))  # size of an SFT batch at this scale
    steps = torch.optim.AdamW(model.parameters(), 1e-4)

    def train() -> int:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        steps.step()
        steps.zero_grad()
        return ids.numel()

    def decode() -> int:
        prompts = [row[:40] for row in ids[:16].tolist() for _ in range(8)]
        drawn = generation.complete(model, prompts, end=-1, pad=0, max_new_tokens=24)
        return sum(map(len, drawn))

    return rate(train), rate(decode)


def rate(work: Callable[[], int]) -> float:
    """Units of work per second: median over calls for about `SECONDS`, after a warm-up call."""
    work()
    rates, began = [], time.perf_counter()
    while not rates or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        rates.append(work() / (time.perf_counter() - start))
    return statistics.median(rates)


def main() -> None:
    """Print the speeds as JSON; start-up time is measured with the imports of a stage."""
    parser = argparse.ArgumentParser(description="Measure this machine.")
    for name, usual in SIZES.items():
        parser.add_argument(name, type=int, nargs="?", default=usual)
    parser.add_argument("asked", type=float, nargs="?", default=time.time())
    options = vars(parser.parse_args())

    import trl  # noqa: F401
    from transformers import Exaone4ForCausalLM  # noqa: F401
    from trl import SFTTrainer  # noqa: F401

    startup = time.time() - options.pop("asked")
    training, decoding = measure(*(options[name] for name in SIZES))
    print(json.dumps(asdict(Speed(round(training), round(decoding), round(startup, 1)))))


if __name__ == "__main__":
    main()
