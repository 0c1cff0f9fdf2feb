"""Run a recipe: papermill executes its notebooks in order, one process each.

    python -m trlm_utils.pipeline run nano
    python -m trlm_utils.pipeline run nano --seed 0,1,2
    python -m trlm_utils.pipeline run nano --seed 1 --set 06_grpo.LEARNING_RATE=2.0e-4
    python -m trlm_utils.pipeline list | doctor | compare | show, report or verify RECIPE

Exit status: 0 done, 1 a stage failed, 2 the request itself was wrong.

A stage that is finished with the same inputs (parameters, source, data files and the
stages it reads) is skipped; one that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trlm_utils import arms, recipes, report
from trlm_utils.doctor import MIN_FREE_MB, examine, free_disk_mb
from trlm_utils.recipes import Plan, RecipeError, StagePlan
from trlm_utils.stage import (
    PROJECT_ROOT,
    STARTED,
    StageError,
    outputs_digest,
    read_json,
    runs_root,
    shown,
    write_json,
)

PACKAGE = Path(__file__).parent
# Modules that run or describe a stage but cannot change what it computes.
NOT_INPUTS = {
    "arms.py",
    "benchmark.py",
    "compare.py",
    "doctor.py",
    "estimate.py",
    "notebooks.py",
    "pipeline.py",
    "recipes.py",
    "report.py",
    "slides.py",
    "verify.py",
}
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)


class RunFailed(RuntimeError):
    """A stage failed; the message is one line for people."""


def run_folder(recipe: str, scale: str, seed: int) -> Path:
    """``runs/<recipe>``; other scales and seeds get a folder of their own."""
    name = recipe if scale == "nano" else f"{recipe}-{scale}"
    folder = runs_root().resolve() / name
    return folder if seed == 0 else folder / f"seed-{seed}"


# --- what a stage depends on ------------------------------------------------------


def inputs_digest(plan: StagePlan, run: Path) -> str:
    """SHA-256 over all a stage's result depends on; equal digest, equal result."""
    digest = hashlib.sha256()
    own = {k: v for k, v in plan.parameters.items() if k != "RUN_DIR"}
    digest.update(json.dumps(own, sort_keys=True).encode())
    digest.update("\0".join(recipes.code_cells(plan.notebook)).encode())
    for path in sorted(PACKAGE.glob("*.py")) + sorted((PACKAGE / "tasks").glob("*")):
        if path.is_file() and path.name not in NOT_INPUTS:
            digest.update(path.read_bytes())
    for path in sorted((PACKAGE / "templates").glob("*.jinja")):
        digest.update(path.read_bytes())
    if set(plan.parameters.get("SUITES", ())) - {"nano"}:
        for path in sorted((PACKAGE / "suites").glob("*.yaml")):
            digest.update(path.read_bytes())
        if plan.parameters["SUITE_DIR"]:
            digest.update(_listing(Path(plan.parameters["SUITE_DIR"])))
    if plan.parameters.get("DATA_DIR"):
        for path in sorted(Path(plan.parameters["DATA_DIR"]).glob("*.json*")):
            digest.update(path.read_bytes())
    for stage in plan.reads:
        digest.update(read_manifest(run / stage).get("outputs", "").encode())
    return digest.hexdigest()


def _listing(folder: Path) -> bytes:
    """Names, sizes and times of all files in a folder, which may be too large to read."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return "\n".join(f"{path} {s.st_size} {s.st_mtime_ns}" for path, s in found).encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """A stage's manifest, or {} where there is none or it is damaged."""
    try:
        return read_json(folder / "manifest.json")
    except StageError:
        return {}


def is_finished(folder: Path, digest: str) -> bool:
    """Whether a stage is finished with these inputs and its outputs are unharmed."""
    manifest = read_manifest(folder)
    return (
        manifest.get("status") == "finished"
        and manifest.get("inputs") == digest
        and manifest.get("outputs") == outputs_digest(folder)
    )


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


def kernel_environment(needs_hub: bool) -> dict[str, str]:
    """Variables for the kernels: local, quiet, and without secrets they do not need."""
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
    }
    if needs_hub:
        return quiet
    secrets = {name: "" for name in os.environ if SECRET_NAME.search(name)}
    return quiet | secrets | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables (an empty text unsets) for the time of the block."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        for name, value in variables.items():
            _set_variable(name, value or None)
        yield
    finally:
        for name, value in before.items():
            _set_variable(name, value)


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def execute(plan: StagePlan, folder: Path, needs_hub: bool, verbose: bool) -> None:
    """Run one notebook through papermill; its executed copy lies in the stage's folder.

    Raises:
        RunFailed: with one line on what went wrong, where.
    """
    import nbclient
    import papermill

    # On an interruption these report the kernel's death each in their own words.
    for name in ("asyncio", "papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    output = folder / "notebook.ipynb"
    secrets = secret_values()
    try:
        with environment(kernel_environment(needs_hub) | {STARTED: str(time.time())}):
            papermill.execute_notebook(
                str(plan.notebook),
                str(output),
                parameters=plan.parameters,
                cwd=str(PROJECT_ROOT),
                progress_bar=False,
                stdout_file=sys.stdout if verbose else None,
                kernel_name="python3",
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
        if "No space left" in reason:
            reason = "the disk is full; free some space and start again"
        raise RunFailed(
            f"stage {plan.stage} failed in cell {error.exec_count}: {reason} (see {shown(output)})"
        ) from None
    except nbclient.exceptions.DeadKernelError:
        raise RunFailed(
            f"stage {plan.stage} failed: its process was killed, most likely for want "
            "of memory; a smaller batch needs less"
        ) from None
    except OSError as error:
        raise RunFailed(f"stage {plan.stage} failed: {error}") from None
    finally:
        redact(output, secrets)


def secret_values() -> list[str]:
    """Values of environment variables whose names say that they are secret."""
    return [v for k, v in os.environ.items() if SECRET_NAME.search(k) and len(v) >= 8]


def redact(notebook: Path, secrets: Sequence[str]) -> None:
    """Remove secrets, and anything that looks like a Hub token, from a notebook."""
    if not notebook.exists():
        return
    text = notebook.read_text(encoding="utf-8")
    clean = re.sub(r"\bhf_[A-Za-z0-9]{20,}\b", "[removed]", text)
    for value in secrets:
        clean = clean.replace(value, "[removed]")
    if clean != text:
        notebook.write_text(clean, encoding="utf-8")


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
    for number, stage in enumerate(plan.stages, 1):
        if stage not in chosen:
            continue
        head = f"[{number}/{len(plan.stages)}] {stage.stage:<18}"
        digest = inputs_digest(stage, folder)
        place = folder / stage.stage
        if not force and is_finished(place, digest):
            print(f"{head} already finished", flush=True)
            continue
        print(f"{head} ...", flush=True)
        began = time.time()
        try:
            prepare_folder(place, stage, digest, fresh=force)
            execute(stage, place, plan.needs_hub, verbose)
            wall = time.time() - began
            manifest = read_manifest(place)
            write_json(place / "manifest.json", manifest | {"wall_seconds": round(wall, 1)})
        except OSError as error:
            raise RunFailed(f"stage {stage.stage} failed: {error}") from None
        if manifest.get("status") != "finished":
            raise RunFailed(f"stage {stage.stage} ended without stage.finish(...)")
        line = read_json(place / "metrics.json").get("headline", "")
        print(f"{head} done in {wall:.0f} s  {line}", flush=True)


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


# --- the command line -------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """The command line described at the top of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m trlm_utils.pipeline", description="Run recipes of the course."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a recipe")
    run.add_argument("--from", dest="start", default="", metavar="STAGE")
    run.add_argument("--only", default="", metavar="STAGE")
    run.add_argument("--force", action="store_true", help="run finished stages again")
    run.add_argument("--verbose", action="store_true", help="show what notebooks print")
    for name, text in (
        ("show", "print the stages and parameters of a recipe"),
        ("report", "write the report of a run again"),
        ("verify", "build a recipe on tiny stand-ins, one step a stage"),
    ):
        commands.add_parser(name, help=text)
    for name in ("run", "show", "report", "verify"):
        command = commands.choices[name]
        command.add_argument("recipe", help="a recipe's name, or a path to a YAML file")
        default = "full" if name == "verify" else "nano"
        command.add_argument("--scale", default=default)
        command.add_argument("--seed", default="0", help="one, or several: 0,1,2")
        if name == "show":
            command.add_argument("--gpu", default="A100", help="card to estimate for (full scale)")
        command.add_argument("--set", action="append", default=[], metavar="S.NAME=VALUE")
    compared = commands.add_parser("compare", help="set the reports of recipes side by side")
    compared.add_argument("recipes", nargs="*", help="names; by default the six systems")
    commands.add_parser("list", help="list the recipes")
    commands.add_parser("doctor", help="look at this machine")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except (RecipeError, StageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 1


def parse_seeds(text: str) -> list[int]:
    """``"0,1,2"`` -> ``[0, 1, 2]``.

    Raises:
        RecipeError: when it is no list of different whole numbers from 0.
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise RecipeError(f"--seed {text}: write a whole number, or several as 0,1,2")
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise RecipeError(f"--seed {text}: a seed is named twice")
    return seeds


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "list":
        for name, about in recipes.list_recipes().items():
            print(f"{name:<10} {about}")
        return 0
    if options.command == "doctor":
        print(examine().to_string(index=False))
        return 0
    if options.command == "compare":
        from trlm_utils import compare

        folder = compare.write(options.recipes or compare.RECIPES)
        print(f"comparison: {shown(folder / 'compare.html')} (also .json, .csv, .svg and .png)")
        return 0
    if options.command == "verify":
        from trlm_utils import verify

        return verify.run(options.recipe, options.scale, options.set)
    path = recipes.find_recipe(options.recipe)
    name = recipes.run_name(path)
    for seed in parse_seeds(options.seed):
        folder = run_folder(name, options.scale, seed)
        plan = recipes.load_plan(options.recipe, options.scale, seed, options.set, str(folder))
        if options.command == "show":
            show(plan)
            if options.scale == "full":
                from trlm_utils import estimate

                print(f"\n{estimate.text(plan, options.gpu)}")
            return 0
        if options.command == "run":
            if options.seed != str(seed):
                print(f"seed {seed}", flush=True)
            with locked(folder):
                run_plan(
                    plan,
                    folder,
                    start=options.start,
                    only=options.only,
                    force=options.force,
                    verbose=options.verbose,
                )
    base = run_folder(name, options.scale, 0)
    if plan.groups:
        print(arms.write(plan.groups, base, path.stem))
    if name != path.stem:  # it ran in another recipe's folder, whose report stays
        return 0
    arms_found = arms.table(plan.groups, base) if plan.groups else None
    written = report.write(plan, base, arms_found)
    print(report.ladder_text(read_json(written / "report.json")))
    print(f"report: {shown(written / 'report.html')} (also .md and .json)")
    return 0


def show(plan: Plan) -> None:
    """Print a plan: its stages, what they read, and every parameter."""
    print(f"{plan.recipe} ({plan.scale}): {plan.about}")
    for stage in plan.stages:
        reads = ", ".join(stage.reads) or "nothing"
        print(f"\n{stage.stage}  (notebook {stage.notebook.stem}, reads {reads})")
        for name, value in stage.parameters.items():
            if name not in recipes.WIRING:
                print(f"    {name} = {value!r}")


if __name__ == "__main__":
    sys.exit(main())
