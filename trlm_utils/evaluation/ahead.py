"""Questions put to a finished model beside the training of the next one.

The evaluation at the end of a run asks each stage's model questions that are known before.
Where a core is free, the runner lets this module's process ask them as soon as the model is
there; the evaluation then takes what was drawn (`take`) if it is exactly what it would draw
itself: from the same model, questions, settings and code. Otherwise it draws.

    python -m trlm_utils.evaluation.ahead PARENT < jobs

A job is a line of JSON: run (a folder), model (a stage), parameters (those of the evaluation),
kinds (see `KINDS`).
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

FOLDER = ".ahead"  # in the folder of a run
PACKAGE = PROJECT_ROOT / "trlm_utils"
LOADING = ("attention", "dtype")  # settings that are of the model, not of asking
KINDS = ("records", "counts")  # of `held_out.evaluate` and `held_out.count_right`
LOOK = 0.5  # seconds between two looks at whether the runner is still there


def place(run: Path, model: str, kind: str) -> Path:
    """Where what a model said lies until the evaluation takes it."""
    return run / FOLDER / f"{model.replace('/', '--')}.{kind}.json"


def key(run: Path, model: str, kind: str, rows: Sequence[Record], settings: Record) -> str:
    """SHA-256 over all that what a model says depends on."""
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
    """What this model was found to say to these questions; None where it was not asked.

    While a process is asking just this, it is waited for: it began earlier.

    Args:
        kind: one of `KINDS`.
        rows: the questions.
        settings: of the function that asks, without the model and the questions.
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
    """Hold a lock, which goes when the process does: alone to ask, or only to wait for it."""
    import fcntl  # there is none on Windows, where nothing is asked ahead

    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def jobs(parameters: Record, eval_rows: Sequence[Record], model: str) -> dict[str, Any]:
    """Kind -> (questions, settings) that an evaluation with these parameters asks of a model.

    Args:
        parameters: of notebook 07.
        eval_rows: the data set ``eval`` of its ``DATA_FROM``.
    """
    p = parameters
    rows = [row for row in eval_rows if not p["BANDS"] or row["band"] in p["BANDS"]]
    how = {"max_new_tokens": p["MAX_NEW_TOKENS"], "batch_size": p["EVAL_BATCH"]}
    how |= {"seed": p["SEED"], "system": p["SYSTEM_PROMPT"]}
    how |= {"attention": p["ATTENTION"], "dtype": p["DTYPE"]}
    found = {"records": (rows, how | {"samples": p["SAMPLES"]})}
    chosen = []
    for band in p["PASS_BANDS"]:
        chosen += [row for row in rows if row["band"] == band][: p["PASS_QUESTIONS"]]
    if model in p["PASS_STAGES"]:
        found["counts"] = (chosen, how | {"samples": p["PASS_SAMPLES"]})
    return {kind: asked for kind, asked in found.items() if asked[0]}


def ask(run: Path, model: str, parameters: Record, kinds: Sequence[str] = KINDS) -> None:
    """Put an evaluation's questions to a finished model and keep what it says.

    Nothing is done for a model so large that its training needs all cores, on a machine
    with a GPU, or where the evaluation was faster.
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
    """End this process when the one that started it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the jobs that come in, one by one, with the lowest priority, until there are none."""
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
