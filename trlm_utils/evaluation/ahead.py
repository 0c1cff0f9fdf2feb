"""Evaluate a finished model in the background, while the next stage trains.

The evaluation notebook at the end of a run asks every stage's model questions that are known
in advance. If a core is free, the runner starts this module as a process that samples the
answers as soon as a model is finished. The notebook then loads them (`take`) if model,
questions, settings and code are the same, so that its own sampling would give the same
result. Otherwise it samples itself.

    python -m trlm_utils.evaluation.ahead PARENT < jobs

PARENT is the runner's process id. A job is a line of JSON: run (a folder), model (a stage),
parameters (those of the evaluation), kinds (see `KINDS`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import machine
from trlm_utils.evaluation import held_out
from trlm_utils.evaluation.held_out import Record
from trlm_utils.files import (
    PROJECT_ROOT,
    CourseError,
    file_digest,
    read_json,
    read_rows,
    write_json,
    write_rows,
)

FOLDER = ".ahead"  # folder of the results, in the run's folder
PACKAGE = PROJECT_ROOT / "trlm_utils"
LOADING = ("attention", "dtype")  # settings for loading the model, not for the evaluation
KINDS = ("records", "counts")  # results of `held_out.evaluate` and `held_out.count_right`
LOOK = 0.5  # seconds between two checks whether the runner still runs


def place(run: Path, model: str, kind: str) -> Path:
    """Path of a model's results, until the evaluation loads them."""
    return run / FOLDER / f"{model.replace('/', '--')}.{kind}.json"


def key(run: Path, model: str, kind: str, rows: Sequence[Record], settings: Record) -> str:
    """SHA-256 over everything that the results depend on: model, questions, settings, code."""
    digest = hashlib.sha256()
    asked = [kind, settings, list(rows), machine.package_versions()]
    digest.update(json.dumps(asked, sort_keys=True).encode())
    code = [path for kind in ("*.py", "*.yaml", "*.jinja") for path in PACKAGE.rglob(kind)]
    code = [path for path in code if not path.is_relative_to(PACKAGE / "runner")]
    weights = [path for path in (run / model / "model").rglob("*") if path.is_file()]
    for path in sorted(code) + sorted(weights):
        digest.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def take(
    run: Path, model: str, kind: str, rows: Sequence[Record], settings: Record
) -> list[Record] | None:
    """The results of this model for these questions; None if there are none.

    If the background process is computing exactly these results, it is waited for.

    Args:
        kind: one of `KINDS`.
        rows: the questions.
        settings: arguments of the evaluating function, without the model and the questions.
    """
    file = place(run, model, kind)
    if (lock := file.with_suffix(".lock")).exists():
        with _lock(lock, alone=False):
            pass
    if not file.exists():
        return None
    try:
        found = read_json(file)
    except CourseError:
        return None
    return found["rows"] if found.get("key") == key(run, model, kind, rows, settings) else None


@contextlib.contextmanager
def _lock(file: Path, alone: bool) -> Iterator[None]:
    """Hold a file lock: exclusive (``alone``) to compute results, shared to wait for them.

    The operating system releases it when the process ends.
    """
    import fcntl  # missing on Windows, where no background evaluation runs

    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def jobs(parameters: Record, eval_rows: Sequence[Record], model: str) -> dict[str, Any]:
    """The evaluations of a model in notebook 07: kind -> (questions, settings).

    Args:
        parameters: parameters of notebook 07.
        eval_rows: the data set ``eval`` of the stage in its parameter ``DATA_FROM``.
    """
    p = parameters
    rows = [row for row in eval_rows if not p["BANDS"] or row["band"] in p["BANDS"]]
    how = {"max_new_tokens": p["MAX_NEW_TOKENS"], "batch_size": p["EVAL_BATCH"]}
    how |= {"seed": p["SEED"], "system": p["SYSTEM_PROMPT"], "engine": p["ROLLOUTS"]}
    how |= {"attention": p["ATTENTION"], "dtype": p["DTYPE"]}
    samples = {"samples": p["SAMPLES"], "plain_samples": p["PLAIN_SAMPLES"]}
    found = {"records": (rows, how | samples)}
    chosen = []
    for band in p["PASS_BANDS"]:
        chosen += [row for row in rows if row["band"] == band][: p["PASS_QUESTIONS"]]
    if model in p["PASS_STAGES"]:
        found["counts"] = (chosen, how | {"samples": p["PASS_SAMPLES"]})
    return {kind: asked for kind, asked in found.items() if asked[0]}


def ask(run: Path, model: str, parameters: Record, kinds: Sequence[str] = KINDS) -> None:
    """Evaluate a finished model and save the results.

    Nothing is done on a machine with a GPU, for a model so large that training uses all
    cores, or if the evaluation notebook already has the results.
    """
    from trlm_utils.models import load_model

    if machine.detect_device()[0] != "cpu":
        return
    loading = (parameters["ATTENTION"], parameters["DTYPE"])
    network, tokenizer = load_model(run / model / "model", *loading)
    if machine.limit_threads(network) > 1:
        return
    data = run / parameters["STAGE"] / "data"
    eval_rows = read_rows(run / parameters["DATA_FROM"] / "data" / "eval.jsonl")
    for kind, (rows, settings) in jobs(parameters, eval_rows, model).items():
        file = place(run, model, kind)
        kept = f"{'pass' if kind == 'counts' else 'records'}_{model}.jsonl"
        if kind not in kinds or (data / kept).exists():
            continue
        file.parent.mkdir(exist_ok=True)
        with _lock(file.with_suffix(".lock"), alone=True):
            wanted = key(run, model, kind, rows, settings)
            settings = {k: v for k, v in settings.items() if k not in LOADING}
            if kind == "records":
                questions = file.with_suffix(".questions")
                write_rows(questions, rows)
                found = held_out.evaluate(network, tokenizer, questions, **settings)
            else:
                found = held_out.count_right(network, tokenizer, rows, **settings)
            write_json(file, {"key": wanted, "rows": found})


def end_with(parent: int) -> None:
    """End this process when its parent process has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the jobs from standard input one by one, at low priority, until the input ends."""
    end_with(int(sys.argv[1]))
    if hasattr(os, "nice"):
        os.nice(10)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for line in sys.stdin:
        job = json.loads(line)
        ask(Path(job["run"]), job["model"], job["parameters"], job["kinds"])


if __name__ == "__main__":
    main()
