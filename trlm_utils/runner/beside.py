"""Evaluate finished stages in the background while the next stage trains (`evaluation.ahead`).

A failure here costs only time: the evaluation notebook computes the missing results itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trlm_utils import machine
from trlm_utils.evaluation import ahead
from trlm_utils.files import PROJECT_ROOT
from trlm_utils.runner.kernel import environment, kernel_environment
from trlm_utils.runner.recipes import Plan, StagePlan

EVALUATION = "07_evaluation"  # the notebook whose evaluations run in the background


class Beside:
    """The background process that evaluates; it is started when there is a first job.

    Args:
        plan: the recipe.
        folder: folder of the run.
        to_run: stages that are not finished yet, in order. If no evaluation is among them,
            nothing is done.
    """

    def __init__(self, plan: Plan, folder: Path, to_run: Sequence[StagePlan]):
        self.folder, self.needs_hub = folder, plan.needs_hub
        self.order = [stage.stage for stage in to_run]
        self.evaluations = [
            stage
            for stage in to_run
            if stage.notebook.stem == EVALUATION and "nano" in stage.parameters["SUITES"]
        ]
        self.finished = {stage.stage for stage in plan.stages} - set(self.order)
        self.asked: set[tuple[str, str]] = set()
        self.process: subprocess.Popen | None = None

    def due(self) -> list[tuple[StagePlan, str, tuple[str, ...]]]:
        """New jobs: (evaluation stage, model, kinds) that can be computed now; each only once.

        If the evaluation stage is next, only the later kinds are returned, because the stage
        itself starts with the first kind.
        """
        left = [name for name in self.order if name not in self.finished]
        found = []
        for stage in self.evaluations:
            if stage.stage not in left or stage.parameters["DATA_FROM"] not in self.finished:
                continue
            kinds = ahead.KINDS[1:] if left[0] == stage.stage else ahead.KINDS
            for model in stage.parameters["EVALUATE"]:
                if model in self.finished and (stage.stage, model) not in self.asked:
                    self.asked.add((stage.stage, model))
                    found.append((stage, model, kinds))
        return found

    def go_on(self, finished: str) -> None:
        """Record that a stage is finished, and start jobs that this allows, if a core is free."""
        self.finished.add(finished)
        if machine.cores() > 1 and os.name == "posix":
            for stage, model, kinds in self.due():
                self._send(stage, model, kinds)

    def _send(self, stage: StagePlan, model: str, kinds: Sequence[str]) -> None:
        job = {"run": str(self.folder), "model": model, "parameters": stage.parameters}
        with contextlib.suppress(OSError):  # the process has failed; `end` reports it
            if self.process is None:
                self._start()
            self.process.stdin.write(json.dumps(job | {"kinds": kinds}) + "\n")
            self.process.stdin.flush()

    def _start(self) -> None:
        (self.folder / ahead.FOLDER).mkdir(exist_ok=True)
        log = (self.folder / ahead.FOLDER / "log.txt").open("w")
        with environment(kernel_environment(self.needs_hub)), log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trlm_utils.evaluation.ahead", str(os.getpid())],
                cwd=PROJECT_ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
            )

    def end(self) -> None:
        """Stop the process; delete the results if all evaluations are finished."""
        process, self.process = self.process, None
        if process is not None:
            failed = process.poll() not in (None, 0)
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.kill()  # unfinished results are not needed; only complete files were written
            process.wait()
            if failed:
                kept = self.folder / ahead.FOLDER / "log.txt"
                print(f"evaluating beside training failed, see {kept.name} in {ahead.FOLDER}/")
                return
        if self.finished >= {stage.stage for stage in self.evaluations}:  # results were loaded
            shutil.rmtree(self.folder / ahead.FOLDER, ignore_errors=True)


@contextlib.contextmanager
def evaluating(plan: Plan, folder: Path, to_run: Sequence[StagePlan]) -> Iterator[Beside]:
    """Context in which finished stages are evaluated in the background; see `Beside.go_on`."""
    beside = Beside(plan, folder, to_run)
    try:
        yield beside
    finally:
        beside.end()
