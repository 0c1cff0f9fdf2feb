"""Measure what a second thread gains for each kind of work, on an idle and on a busy machine.

    python -m tools.threads [--repeats 7] [--work "0.14M sft,7M sft"] [--out FILE]
    python -m tools.threads --at-once

Each kind of work (training steps of SFT, DPO and GRPO, rollouts, evaluation) is timed with one
thread, with one thread per core, and with one per core and ``OMP_WAIT_POLICY=passive``; each
alone, and next to a busy process. The settings take turns, so that a slower phase of the
machine affects all of them. The table has the median time, the median of the ratio to one
thread in the same turn (above 1 is slower), and the ratio of the fastest turns, which is the
most reliable when other work comes and goes. The rule in `machine.limit_threads` follows from
these results. ``--at-once`` times one process with one thread, alone and together with a second
one that does the same work, each pinned to a core: what two jobs cost each other. (``--jobs 2``
gains less over a run alone, which evaluates finished models on the second core.) These are
measurements, not tests.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.turns import line
from trlm_utils import machine
from trlm_utils.files import shown

# model -> hidden size, layers, vocabulary; the first is the course's own model
SIZES = {"0.14M": (64, 2, 512), "1M": (128, 4, 512), "7M": (256, 8, 2048), "29M": (512, 8, 4096)}
KINDS = ("sft", "dpo", "grpo", "rollouts", "evaluation")
WORK = [f"0.14M {kind}" for kind in KINDS]
WORK += [f"{size} {kind}" for size in list(SIZES)[1:] for kind in ("sft", "rollouts")]

BUSY = "import os\nstarter = os.getppid()\nwhile os.getppid() == starter: pass"


# --- one kind of work ---------------------------------------------------------------


def make_model(size: str) -> Any:
    """A Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, vocabulary = SIZES[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16 if hidden < 256 else hidden // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def training_step(model: Any, rows: int, tokens: int, reference: bool) -> None:
    """One training step (forward, backward, AdamW); half of each row's tokens carry loss."""
    import torch

    steps = torch.optim.AdamW(model.parameters(), 1e-4)
    ids = torch.randint(5, model.config.vocab_size, (rows, tokens))
    targets = ids[:, tokens // 2 :].flatten()

    def loss() -> Any:
        logits = model(input_ids=ids, logits_to_keep=tokens - tokens // 2 + 1).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)

    if reference:
        with torch.no_grad():
            loss()
    loss().backward()
    steps.step()
    steps.zero_grad()


def drawing(model: Any, completions: int, budget: int, temperature: float) -> None:
    """Sample completions of prompts of 40 tokens, 8 per prompt, each with the whole budget."""
    import torch

    from trlm_utils import generation

    prompts = torch.randint(5, model.config.vocab_size, (completions // 8, 40)).tolist()
    generation.complete(
        model,
        [ids for ids in prompts for _ in range(8)],
        end=-1,  # not a token, so no completion ends before the budget
        pad=0,
        max_new_tokens=budget,
        temperature=temperature,
        batch_size=256,
    )


def work_of(size: str, kind: str) -> Callable[[], None]:
    """A function that does one kind of work on a model of this size; takes under a second."""
    model = make_model(size)
    small = size == "0.14M"
    if kind in ("sft", "dpo", "grpo"):
        rows = {"sft": 32, "dpo": 64, "grpo": 128}[kind] if small else {"1M": 16}.get(size, 4)
        times = {"sft": 3, "dpo": 1, "grpo": 1}[kind] if small else 1
        return lambda: [training_step(model, rows, 110, kind == "dpo") for _ in range(times)]
    completions = 256 if small else {"1M": 128}.get(size, 32)
    budget = 16 if size in ("0.14M", "1M") else 6
    temperature = 0.0 if kind == "evaluation" else 1.0
    return lambda: drawing(model, completions, budget, temperature)


def serve(threads: int) -> None:
    """Time the work named by each line of standard input, until the input ends."""
    import torch

    torch.set_num_threads(threads)
    ready: dict[str, Callable[[], None]] = {}
    for asked in sys.stdin:
        name = asked.strip()
        if name not in ready:
            ready[name] = work_of(*name.split())
            ready[name]()  # warm-up, not timed
        began = time.perf_counter()
        ready[name]()
        print(time.perf_counter() - began, flush=True)


# --- settings in turns --------------------------------------------------------------


def settings() -> dict[str, tuple[int, dict[str, str]]]:
    """Name of a setting -> number of threads, environment variables."""
    many = machine.cores()
    passive = {"OMP_WAIT_POLICY": "passive"}
    return {"1": (1, {}), f"{many}": (many, {}), f"{many} passive": (many, passive)}


def start(threads: int, variables: dict[str, str]) -> subprocess.Popen:
    """Start a process that times work with so many threads."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "tools.threads", "--serve", str(threads)],
        env=own | variables | {"OMP_NUM_THREADS": str(threads)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure(repeats: int, works: Sequence[str], chosen: Sequence[str]) -> list[dict[str, Any]]:
    """One row per kind of work, machine load and setting: seconds, ratio to one thread."""
    if machine.cores() == 1:
        raise SystemExit("this process may use one core only: there is nothing to compare")
    workers = {name: start(*how) for name, how in settings().items() if name in ("1", *chosen)}
    rows = []
    try:
        for work in works:
            for beside in ("nothing", "a busy process"):
                seconds = turns(workers, work, beside != "nothing", repeats)
                for name, found in seconds.items():
                    ratios = [a / b for a, b in zip(found, seconds["1"], strict=True)]
                    rows.append(
                        {"work": work, "beside": beside, "threads": name}
                        | {"seconds": round(statistics.median(found), 4)}
                        | {"ratio": round(statistics.median(ratios), 2)}
                        | {"lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)}
                        | {"of best turns": round(min(found) / min(seconds["1"]), 2)}
                    )
                    print(json.dumps(rows[-1]), flush=True)
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return rows


def turns(
    workers: dict[str, subprocess.Popen], work: str, busy: bool, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each setting in each turn; the settings take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    other = None
    if busy:
        other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        for turn in range(repeats + 1):
            for name, worker in workers.items():
                found = ask([worker], work)[0]
                if turn:  # the first turn is a warm-up
                    seconds[name].append(found)
    finally:
        if other:
            other.kill()
            other.wait()
    return seconds


def ask(workers: Sequence[subprocess.Popen], work: str) -> list[float]:
    """Let all of them do this work at the same time; the seconds of each."""
    for worker in workers:
        worker.stdin.write(f"{work}\n")
        worker.stdin.flush()
    return [float(worker.stdout.readline()) for worker in workers]


def at_once(repeats: int, works: Sequence[str]) -> None:
    """Print what two processes at once do in the time in which one does 1, for each work.

    That is twice the time alone by the time of the slower of two.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("this process may use one core only: nothing can run at once")
    workers = [start(1, {}) for _ in cores]
    for worker, core in zip(workers, cores, strict=True):
        os.sched_setaffinity(worker.pid, {core})
    try:
        for work in works:
            gains = [
                2 * ask(workers[:1], work)[0] / max(ask(workers, work)) for _ in range(repeats + 1)
            ]
            print(line(f"two at once, {work}", gains[1:], "times one's work"))  # 0 is a warm-up
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait()


def plot(table: Any) -> Any:
    """Ratio to one thread by kind of work, alone and beside a busy process, a mark a setting."""
    import matplotlib.pyplot as plt

    from trlm_utils.slide import COLOURS, MARKERS, STYLE, make_panels, put_legend, put_title

    works = list(dict.fromkeys(table["work"]))
    others = table[table["threads"] != "1"]
    with plt.rc_context(STYLE):
        figure, axes = make_panels(2, sharey=True)
        for axis, (beside, rows) in zip(axes, others.groupby("beside", sort=False), strict=True):
            for k, (name, part) in enumerate(rows.groupby("threads", sort=False)):
                y = [works.index(work) for work in part["work"]]
                style = {"color": COLOURS[k], "marker": MARKERS[k], "ls": ""}
                axis.plot(part["ratio"], y, label=f"{name} threads", **style)
            axis.axvline(1, color="black", lw=1)
            axis.set_xscale("log")
            axis.set_xticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
            axis.minorticks_off()
            axis.set_xlabel("times as long as with one thread")
            axis.set_title("alone" if beside == "nothing" else "beside a busy process")
            axis.set_yticks(range(len(works)), works)
        axes[0].invert_yaxis()
        put_legend(figure, axes)
        ranges = [
            f"{'alone' if beside == 'nothing' else 'beside a busy process'} "
            f"{rows['ratio'].min():.2g} to {rows['ratio'].max():.2g}"
            for beside, rows in others.groupby("beside", sort=False)
        ]
        message = f"More threads, time against one thread: {'; '.join(ranges)} times"
        put_title(figure, message, f"n {len(works)} kinds of work, medians of turns")
    plt.close(figure)
    return figure


def main() -> None:
    """Run the measurements described at the top of this file."""
    parser = argparse.ArgumentParser(description="What a second thread brings.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--work", default=",".join(WORK), help="model and kind, with commas")
    parser.add_argument("--settings", default=",".join(settings()), help="1 is always there")
    parser.add_argument("--at-once", action="store_true", help="one process against two")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.at_once:
        at_once(options.repeats, options.work.split(","))
        return
    import pandas as pd

    lists = (options.work.split(","), options.settings.split(","))
    table = pd.DataFrame(measure(options.repeats, *lists))
    if options.out:
        from trlm_utils.plots import save_figure

        save_figure(plot(table), options.out.with_suffix(""), table)
        print(f"table: {shown(options.out)}")


if __name__ == "__main__":
    main()
