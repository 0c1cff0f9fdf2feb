"""Hand a recipe to Slurm: one job array per level of its graph.

Stages that read none of the others are the first level, those that read them the second, and so
on. An array of one level starts when that of the level before has ended; each of its tasks is
one stage with one seed. A task looks itself whether what it reads is finished, so a stage that
failed stops only those that need it. Calling `submit` again submits what is not finished.

Slurm gives each task its cores and cards. All nodes must see the same folders.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trlm_utils.files import (
    PROJECT_ROOT,
    CourseError,
    read_json,
    runs_root,
    shown,
    write_json,
    write_text,
)
from trlm_utils.runner import jobs, times
from trlm_utils.runner.kernel import RunFailed
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.pipeline import locked, plan_of, select_stages
from trlm_utils.runner.recipes import StagePlan
from trlm_utils.runner.torchrun import Ranks

FOLDER = ".slurm"
SUBMITTED = "submitted.json"  # numbers of the jobs of the last `submit`
OPTION = re.compile(r"[a-z][a-z-]*=\S+")


@dataclass(frozen=True)
class Request:
    """A recipe with one seed, as it was asked for on the command line."""

    recipe: str
    scale: str
    seed: int
    settings: tuple[str, ...] = ()


def levels(
    runs: Sequence[tuple[Request, jobs.Run]],
) -> list[list[tuple[Request, jobs.Run, StagePlan]]]:
    """Stages that are not finished, by level: each reads only stages of the levels before."""
    found: list[list[tuple[Request, jobs.Run, StagePlan]]] = []
    depth: dict[str, int] = {}
    for request, run in runs:
        for stage in times.to_run(select_stages(run.plan, run.folder), run.folder, False):
            key = jobs.key_of(stage.stage, run.folder)
            if key in depth:  # two recipes share it
                continue
            reads = [depth.get(jobs.key_of(name, run.folder), -1) for name in stage.reads]
            depth[key] = 1 + max(reads, default=-1)
            while len(found) <= depth[key]:
                found.append([])
            found[depth[key]].append((request, run, stage))
    return found


def script(folder: Path, level: int, tasks: int, options: Sequence[str]) -> str:
    """The batch script of one level.

    Args:
        folder: where the list of tasks lies and their output goes.
        tasks: number of tasks in the level.
        options: options of sbatch, as ``partition=main``.
    """
    head = [f"job-name={folder.parent.name}-{level}", f"array=0-{tasks - 1}", *options]
    head += [f"output={folder}/level-{level}-%a.log", "open-mode=append", "requeue"]
    task = [sys.executable, "-m", "trlm_utils.runner.slurm", str(folder / f"level-{level}.json")]
    return _batch(head, [f"exec {shlex.join(task)} $SLURM_ARRAY_TASK_ID"])


def _batch(options: Sequence[str], commands: Sequence[str]) -> str:
    """A batch script: options of sbatch, then commands in the project with this run's folders."""
    lines = ["#!/bin/bash", *(f"#SBATCH --{option}" for option in options)]
    lines.append(f"cd {shlex.quote(str(PROJECT_ROOT))}")
    lines.append(f"export TRLM_RUNS_DIR={shlex.quote(str(runs_root().resolve()))}")
    return "\n".join([*lines, *commands]) + "\n"


def submit(
    runs: Sequence[tuple[Request, jobs.Run]],
    options: Sequence[str],
    ranks: int = 0,
    dry_run: bool = False,
) -> None:
    """Write and submit one array per level, and a job that writes the reports at the end.

    Args:
        options: options of sbatch, as ``partition=main`` or ``gpus=1``.
        ranks: processes on which stages train; 0 for one.
        dry_run: print scripts and tasks instead; nothing is written.

    Raises:
        RecipeError: when an option is not ``name=value``, Slurm is not here, or jobs that were
            submitted before have not ended.
    """
    bad = [option for option in options if not OPTION.fullmatch(option)]
    if bad:
        raise RecipeError(f"--slurm {bad[0]}: write name=value, as partition=main or gpus=1")
    folder = runs[0][1].folder / FOLDER
    found = levels(runs)
    if not found:
        print("everything is finished")
        return
    if dry_run:
        _print(folder, found, options)
        return
    if not shutil.which("sbatch"):
        raise RecipeError("sbatch is not here: run this where Slurm is, or with --dry-run")
    still = _unfinished(folder)
    if still:
        raise RecipeError(
            f"jobs {', '.join(still)} have not ended: wait, or cancel them "
            f"(scancel {' '.join(still)})"
        )
    numbers: list[str] = []
    for level, tasks in enumerate(found, 1):
        listed = [asdict(request) | {"stage": stage.stage} for request, _, stage in tasks]
        write_json(folder / f"level-{level}.json", {"ranks": ranks, "tasks": listed})
        path = folder / f"level-{level}.sh"
        write_text(path, script(folder, level, len(tasks), options))
        numbers.append(_sbatch(path, numbers))
        write_json(folder / SUBMITTED, numbers)  # at once: a later level may be refused
        print(f"level {level}: {len(tasks)} stages, job {numbers[-1]}", flush=True)
    path = folder / "reports.sh"
    write_text(path, _reports(folder, runs, options))
    numbers.append(_sbatch(path, numbers))
    write_json(folder / SUBMITTED, numbers)
    print(f"reports: job {numbers[-1]}; output in {shown(folder)}")


def _sbatch(path: Path, before: Sequence[str]) -> str:
    """Submit a script that waits for the last of the jobs before it; returns its number."""
    waits = [f"--dependency=afterany:{before[-1]}"] if before else []
    done = subprocess.run(
        ["sbatch", "--parsable", *waits, str(path)], capture_output=True, text=True
    )
    if done.returncode:
        raise RecipeError(f"sbatch: {done.stderr.strip() or done.returncode}".replace("\n", "; "))
    return done.stdout.strip().split(";")[0]


def _unfinished(folder: Path) -> list[str]:
    """Numbers of the jobs of the last `submit` that are still waiting or running."""
    if not (folder / SUBMITTED).exists():
        return []
    listed = subprocess.run(["squeue", "--noheader", "-o", "%F"], capture_output=True, text=True)
    if listed.returncode:
        raise RecipeError(f"squeue: {listed.stderr.strip()}".replace("\n", "; "))
    here = set(listed.stdout.split())
    return [number for number in read_json(folder / SUBMITTED) if number in here]


def _reports(folder: Path, runs: Sequence[tuple[Request, jobs.Run]], options: Sequence[str]) -> str:
    """The script of the last job: the report of each recipe, over all its seeds."""
    head = [f"job-name={folder.parent.name}-reports", *options, f"output={folder}/reports.log"]
    commands = []
    for request in {request.recipe: request for request, _ in runs}.values():
        command = [sys.executable, "-m", "trlm_utils", "report", request.recipe]
        command += ["--scale", request.scale]
        command += [part for setting in request.settings for part in ("--set", setting)]
        commands.append(shlex.join(command))
    return _batch(head, commands)


def _print(
    folder: Path,
    found: Sequence[Sequence[tuple[Request, jobs.Run, StagePlan]]],
    options: Sequence[str],
) -> None:
    for level, tasks in enumerate(found, 1):
        waits = f", after level {level - 1}" if level > 1 else ""
        print(f"# level {level}: {len(tasks)} stages{waits}")
        for number, (_, run, stage) in enumerate(tasks):
            print(f"#   {number}: {run.name}  {stage.stage}")
        print(script(folder, level, len(tasks), options))


# --- one task ---------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task of a level: one stage with one seed; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trlm_utils.runner.slurm")
    parser.add_argument("level", type=Path, help="the level's list of tasks")
    parser.add_argument("number", type=int, help="SLURM_ARRAY_TASK_ID")
    given = parser.parse_args(arguments)
    try:
        level = read_json(given.level)
        many = Ranks(level["ranks"]) if level["ranks"] else None
        print(run_task(level["tasks"][given.number], many), flush=True)
    except (CourseError, RunFailed, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_task(task: dict, many: Ranks | None = None) -> str:
    """Run the stage that a task names; returns its line.

    Raises:
        RunFailed: when it fails, or a stage that it reads is not finished.
        RecipeError: when another process runs it.
    """
    plan, folder = plan_of(task["recipe"], task["scale"], task["seed"], task["settings"])
    stage = next(one for one in plan.stages if one.stage == task["stage"])
    waiting = times.to_run([one for one in plan.stages if one.stage in stage.reads], folder, False)
    if waiting:
        needed = ", ".join(one.stage for one in waiting)
        raise RunFailed(f"stage {stage.stage} needs {needed}, which is not finished")
    with locked(folder, shared=True), locked(folder / FOLDER / stage.stage):
        try:
            return f"{stage.stage} {jobs.work(stage, folder, plan.needs_hub, 0.0, many=many)}"
        except jobs.StageFailed as error:
            raise RunFailed(error.why) from None


if __name__ == "__main__":
    sys.exit(main())
