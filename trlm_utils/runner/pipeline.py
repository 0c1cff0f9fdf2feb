"""Run a recipe: papermill executes its notebooks in order, one process each.

A stage that is finished with the same inputs (parameters, source, data files and the
stages it reads) is skipped; one that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trlm_utils.doctor import MIN_FREE_MB, free_disk_mb
from trlm_utils.files import read_json, runs_root, shown, write_json
from trlm_utils.runner import probe, times
from trlm_utils.runner.beside import Beside, evaluating
from trlm_utils.runner.digest import inputs_digest, is_finished, read_manifest
from trlm_utils.runner.kernel import Kernels, RunFailed, execute, kernels
from trlm_utils.runner.progress import watching
from trlm_utils.runner.recipes import Plan, RecipeError, StagePlan


def run_folder(recipe: str, scale: str, seed: int) -> Path:
    """``runs/<recipe>``; other scales and seeds get a folder of their own."""
    name = recipe if scale == "nano" else f"{recipe}-{scale}"
    folder = runs_root().resolve() / name
    return folder if seed == 0 else folder / f"seed-{seed}"


# --- what a stage depends on ------------------------------------------------------


# --- running ----------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second runner out of a run's folder; the lock goes when the process does.

    Raises:
        RecipeError: when another process runs here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: no lock, as before
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RecipeError(f"another process is running a recipe in {shown(folder)}") from None
        yield


def prepare_folder(folder: Path, plan: StagePlan, digest: str, fresh: bool = False) -> None:
    """Make a stage's folder ready: kept if interrupted with the same inputs, else new.

    A finished result that has to give way (other inputs, or ``fresh``) is not deleted
    but moved to ``.previous/``.
    """
    manifest = read_manifest(folder)
    if folder.exists() and (fresh or manifest.get("inputs") != digest):
        if manifest.get("status") == "finished":
            kept = folder.parent / ".previous" / folder.name
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(exist_ok=True)
            folder.rename(kept)
        else:
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = {k: v for k, v in plan.parameters.items() if k != "RUN_DIR"}
    state = {"status": "running", "inputs": digest, "parameters": own}
    write_json(folder / "manifest.json", state)


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    start: str = "",
    only: str = "",
    force: bool = False,
    verbose: bool = False,
) -> None:
    """Run the stages of a plan that are not finished yet, a line for each.

    Raises:
        RecipeError: when ``start`` or ``only`` names no stage, or skips over one that
            was never finished.
        RunFailed: when a stage failed. Stages before it stay finished.
    """
    chosen = select_stages(plan, folder, start, only)
    if free_disk_mb() < MIN_FREE_MB:
        raise RecipeError(
            f"only {free_disk_mb():.0f} MiB are free where {shown(folder)} lies; "
            f"a run needs {MIN_FREE_MB}"
        )
    to_run = times.to_run(chosen, folder, force)
    line, speed = times.announce(plan, to_run, folder / probe.MEMORY)
    print(line, flush=True)
    measured = {"probe": asdict(speed)} if speed else {}
    with (
        evaluating(plan, folder, to_run) as beside,
        kernels(to_run, plan.needs_hub) as ahead,
    ):
        _run_stages(plan, folder, chosen, force, verbose, measured, beside, ahead)


def _run_stages(
    plan: Plan,
    folder: Path,
    chosen: list[StagePlan],
    force: bool,
    verbose: bool,
    measured: dict[str, Any],
    beside: Beside,
    ahead: Kernels,
) -> None:
    for number, stage in enumerate(plan.stages, 1):
        if stage not in chosen:
            continue
        head = f"[{number}/{len(plan.stages)}] {stage.stage:<18}"
        digest = inputs_digest(stage, folder)
        place = folder / stage.stage
        if not force and is_finished(place, digest):
            print(f"{head} already finished", flush=True)
            beside.go_on(stage.stage)
            continue
        print(f"{head} ...", flush=True)
        began = time.time()
        try:
            prepare_folder(place, stage, digest, fresh=force)
            with contextlib.nullcontext() if verbose else watching(place, head):
                execute(stage, place, plan.needs_hub, verbose, ahead.take())
            wall = time.time() - began
            manifest = read_manifest(place)
            took = {"wall_seconds": round(wall, 1)} | measured
            write_json(place / "manifest.json", manifest | took)
        except OSError as error:
            raise RunFailed(f"stage {stage.stage} failed: {error}") from None
        if manifest.get("status") != "finished":
            raise RunFailed(f"stage {stage.stage} ended without stage.finish(...)")
        line = read_json(place / "metrics.json").get("headline", "")
        print(f"{head} done in {wall:.0f} s  {line}", flush=True)
        beside.go_on(stage.stage)


def select_stages(plan: Plan, folder: Path, start: str = "", only: str = "") -> list[StagePlan]:
    """The stages that ``--from`` and ``--only`` leave.

    Raises:
        RecipeError: see `run_plan`.
    """
    names = [stage.stage for stage in plan.stages]
    wanted = only or start
    if not wanted:
        return list(plan.stages)
    if wanted not in names:
        raise RecipeError(f"no stage {wanted!r} in {plan.recipe}; known: {', '.join(names)}")
    first = names.index(wanted)
    chosen = list(plan.stages[first : first + 1] if only else plan.stages[first:])
    needed = {read for stage in chosen for read in stage.reads} - {s.stage for s in chosen}
    for name in sorted(needed):
        if read_manifest(folder / name).get("status") != "finished":
            raise RecipeError(f"stage {wanted} needs {name}, which is not finished")
    return chosen
