"""Run a recipe: papermill executes its notebooks in order, one process each.

A stage that is finished with the same inputs (`runner.digest`) is skipped; one that was
interrupted resumes from its last checkpoint. Nothing is deleted when inputs change: finished
results are moved to ``.previous/``, unfinished work to ``.unfinished/``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trlm_utils.doctor import MIN_FREE_MB, free_disk_mb
from trlm_utils.files import free_name, read_json, runs_root, shown, write_json
from trlm_utils.runner import probe, recipe_file, recipes, times
from trlm_utils.runner.beside import Beside, evaluating
from trlm_utils.runner.digest import (
    changes,
    dependencies,
    digest_of,
    is_finished,
    parameters,
    read_manifest,
)
from trlm_utils.runner.kernel import Kernels, RunFailed, execute, kernels
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.progress import watching
from trlm_utils.runner.recipes import Plan, StagePlan
from trlm_utils.runner.torchrun import Ranks, execute_on, leading
from trlm_utils.runner.warm import WarmKernel

INDENT = " " * 6  # of messages below a stage's line


def run_folder(recipe: str, scale: str, seed: int) -> Path:
    """Folder of a run: ``runs/<recipe>``; other scales and seeds have separate folders."""
    name = recipe if scale == "nano" else f"{recipe}-{scale}"
    folder = runs_root().resolve() / name
    return folder if seed == 0 else folder / f"seed-{seed}"


def plan_of(recipe: str, scale: str, seed: int, settings: Sequence[str]) -> tuple[Plan, Path]:
    """The plan of a recipe with one seed, and the folder of its run.

    Args:
        recipe: a name, or a path to a YAML file.
        settings: overrides, as ``STAGE.NAME=VALUE``.

    Raises:
        RecipeError: when the recipe or a setting is wrong.
    """
    folder = run_folder(recipe_file.run_name(recipe_file.find_recipe(recipe)), scale, seed)
    return recipes.load_plan(recipe, scale, seed, settings, str(folder)), folder


@contextlib.contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Context that locks a run's folder, so that no second runner uses it.

    The operating system releases the lock when the process ends.

    Args:
        shared: others that share may use it, too (`runner.slurm`).

    Raises:
        RecipeError: when another process has the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl: no lock
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            raise RecipeError(f"another process is running a recipe in {shown(folder)}") from None
        yield


def prepare_folder(
    folder: Path,
    plan: StagePlan,
    found: dict[str, str],
    fresh: bool = False,
    resume: Path | None = None,
) -> None:
    """Prepare a stage's folder: keep it if it was interrupted with the same inputs, else new.

    Nothing is deleted. Older content is moved to another folder (`set_aside`).

    Args:
        found: the stage's `dependencies`.
        fresh: start again even with the same inputs.
        resume: an unfinished folder to resume from, even if its inputs were different; the
            differences are recorded in the manifest as ``resumed_from``.
    """
    manifest = read_manifest(folder)
    same = manifest.get("inputs") == digest_of(found) and manifest.get("status") != "finished"
    if folder.exists() and resume != folder and (fresh or resume or not same):
        set_aside(folder, manifest, found)
        manifest = {}
    if resume:
        manifest = read_manifest(resume)
        if resume != folder:
            resume.rename(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "status": "running",
        "inputs": digest_of(found),
        "parameters": parameters(plan),
        "depends_on": found,
    }
    before = manifest.get("resumed_from", [])
    if resume and manifest.get("inputs") != digest_of(found):
        was = {"inputs": manifest.get("inputs", ""), "changed": changes(manifest, found)}
        before = [*before, was]
    write_json(folder / "manifest.json", state | ({"resumed_from": before} if before else {}))


def set_aside(folder: Path, manifest: dict[str, Any], found: dict[str, str]) -> None:
    """Move a stage's folder to a free name, so that nothing is overwritten, and print a line.

    A finished result is moved to ``.previous/<stage>-<n>`` in the run's folder, unfinished
    work to ``.unfinished/<stage>-<n>``.
    """
    finished = manifest.get("status") == "finished"
    kept = free_name(folder.parent / (".previous" if finished else ".unfinished") / folder.name)
    kept.parent.mkdir(exist_ok=True)
    folder.rename(kept)
    if finished:
        files = [path for path in kept.parent.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        count = len(list(kept.parent.iterdir()))
        print(
            f"{INDENT}the earlier result is kept in {shown(kept)} "
            f"({count} kept there, {size:.0f} MiB in all)",
            flush=True,
        )
        return
    names = changes(manifest, found)
    what = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} changed: " if names else ""
    print(
        f"{INDENT}{what}unfinished work is kept in {shown(kept)}; "
        f"to go on from it: --resume-from {kept.relative_to(folder.parent)}",
        flush=True,
    )


def find_unfinished(name: str, folder: Path, chosen: Sequence[StagePlan]) -> tuple[str, Path]:
    """The stage and the folder that ``--resume-from`` names.

    Args:
        name: a path, relative to the run's folder (as `set_aside` prints it) or to the
            working directory.
        folder: folder of the run.
        chosen: stages to run.

    Raises:
        RecipeError: when it is not an unfinished folder of this run and one of these stages.
    """
    kept = next((p for p in (folder / name, Path(name).resolve()) if p.is_dir()), None)
    if kept is None or folder not in (kept.parent, kept.parent.parent):
        raise RecipeError(
            f"--resume-from {name}: no such folder in {shown(folder)}; "
            "if it was put back already, leave --resume-from out"
        )
    if read_manifest(kept).get("status") == "finished":
        raise RecipeError(f"--resume-from {name}: it is finished, there is nothing to go on with")
    stage = kept.name if kept.parent == folder else kept.name.rpartition("-")[0]
    if stage not in [plan.stage for plan in chosen]:
        raise RecipeError(f"--resume-from {name}: stage {stage} is none of those to run")
    return stage, kept


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    start: str = "",
    only: str = "",
    force: bool = False,
    verbose: bool = False,
    resume_from: str = "",
    many: Ranks | None = None,
) -> None:
    """Run all stages of a plan that are not finished, and print a line for each.

    Args:
        folder: folder of the run.
        start: first stage to run.
        only: the only stage to run.
        force: run finished stages again.
        verbose: print the notebooks' output.
        resume_from: an unfinished folder to resume from, though its inputs were different.
        many: the ranks on which stages train; None trains in one process.

    Raises:
        RecipeError: when ``start`` or ``only`` is not a stage, or skips a stage that
            was never finished; or ``resume_from`` is not an unfinished folder.
        RunFailed: when a stage failed. Earlier stages stay finished.
    """
    chosen = select_stages(plan, folder, start, only)
    resumed, kept = find_unfinished(resume_from, folder, chosen) if resume_from else ("", None)
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
        evaluating(plan, folder, [] if many else to_run) as beside,  # ranks need the cores
        kernels([] if many else to_run, plan.needs_hub) as ahead,
        leading(many, folder),
    ):
        how = {"force": force, "verbose": verbose, "measured": measured, "many": many}
        _run_stages(plan, folder, chosen, beside, ahead, (resumed, kept), how)


def _run_stages(
    plan: Plan,
    folder: Path,
    chosen: list[StagePlan],
    beside: Beside,
    ahead: Kernels,
    resumed: tuple[str, Path | None],
    how: dict[str, Any],
) -> None:
    for number, stage in enumerate(plan.stages, 1):
        if stage not in chosen:
            continue
        head = f"[{number}/{len(plan.stages)}] {stage.stage:<18}"
        found = dependencies(stage, folder)
        place = folder / stage.stage
        resume = resumed[1] if stage.stage == resumed[0] else None
        if not how["force"] and not resume and is_finished(place, digest_of(found)):
            print(f"{head} already finished", flush=True)
            beside.go_on(stage.stage)
            continue
        print(f"{head} ...", flush=True)
        showing = contextlib.nullcontext() if how["verbose"] else watching(place, head)
        with showing:
            line = run_stage(
                stage, folder, plan.needs_hub, found, resume=resume, warm=ahead.take, **how
            )
        print(f"{head} {line}", flush=True)
        beside.go_on(stage.stage)


def run_stage(
    stage: StagePlan,
    folder: Path,
    needs_hub: bool,
    found: dict[str, str],
    *,
    force: bool = False,
    verbose: bool = False,
    resume: Path | None = None,
    warm: Callable[[], WarmKernel | None] = lambda: None,
    measured: dict[str, Any] | None = None,
    many: Ranks | None = None,
) -> str:
    """Run one stage that is not finished; returns a line on what it took and found.

    Args:
        folder: folder of the run.
        found: the stage's `dependencies`.
        force, resume: see `prepare_folder`.
        warm: gives a kernel that was started before.
        measured: what else the manifest records.
        many: the ranks to train on, if it is a stage that trains.

    Raises:
        RunFailed: when it fails; says why, in one line.
    """
    place, began = folder / stage.stage, time.time()
    try:
        prepare_folder(place, stage, found, fresh=force, resume=resume)
        took = dict(measured or {})
        if many and many.trains(stage):
            execute_on(many, stage, place, needs_hub, verbose)
            took["ranks"] = many.all
        else:
            execute(stage, place, needs_hub, verbose, warm())
        wall = time.time() - began
        manifest = read_manifest(place)
        took["wall_seconds"] = round(wall, 1)
        write_json(place / "manifest.json", manifest | took)
    except OSError as error:
        raise RunFailed(f"stage {stage.stage} failed: {error}") from None
    if manifest.get("status") != "finished":
        raise RunFailed(f"stage {stage.stage} ended without stage.finish(...)")
    return f"done in {wall:.0f} s  {read_json(place / 'metrics.json').get('headline', '')}"


def select_stages(plan: Plan, folder: Path, start: str = "", only: str = "") -> list[StagePlan]:
    """The stages that are selected by ``--from`` and ``--only``; without them all that are needed.

    Of a recipe that is continued, a stage that nothing reads (the evaluation of the ladder, for a
    recipe of arms) is selected only if it was finished before: it then stays up to date.

    Raises:
        RecipeError: see `run_plan`.
    """
    names = [stage.stage for stage in plan.stages]
    wanted = only or start
    if not wanted:
        status = {name: read_manifest(folder / name).get("status") for name in plan.spare}
        return [s for s in plan.stages if status.get(s.stage, "finished") == "finished"]
    if wanted not in names:
        raise RecipeError(f"no stage {wanted!r} in {plan.recipe}; known: {', '.join(names)}")
    first = names.index(wanted)
    chosen = list(plan.stages[first : first + 1] if only else plan.stages[first:])
    needed = {read for stage in chosen for read in stage.reads} - {s.stage for s in chosen}
    for name in sorted(needed):
        if read_manifest(folder / name).get("status") != "finished":
            raise RecipeError(f"stage {wanted} needs {name}, which is not finished")
    return chosen
