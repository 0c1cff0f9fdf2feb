"""Prepare a Colab machine for one notebook, after its bootstrap cell has cloned the course.

The cell is written by `tools.colab` and does nothing elsewhere. Here is the rest: install what
is missing without replacing what the running front end uses, and fetch the earlier stages'
results. This module imports only the standard library, for it runs before anything is installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from trlm_utils import release
from trlm_utils.files import PROJECT_ROOT, CourseError, runs_root

# Packages of the running front end, and compiled ones that it or the kernel may have loaded: a
# replacement on the disk does not fit what is in memory (numpy replaced under a running Colab:
# unslothai/notebooks#339, August 2026).
PROTECTED = (
    *("torch", "numpy", "pandas", "ipykernel", "ipywidgets", "jupyter_client"),
    *("pyzmq", "tornado", "traitlets", "ipython"),
)
DRIVE = Path("/content/drive")
RECORDED = Path(__file__).with_name("runner") / "recorded.yaml"


def prepare(stage: str, recipe: str, drive: bool = False) -> None:
    """Install the course and fetch what a notebook reads; called by its bootstrap cell.

    Args:
        stage: name of the notebook's stage: stages before it are fetched.
        recipe: the notebook's recipe; only those of `nano` read earlier stages.
        drive: keep runs on Google Drive, so that they outlast the machine.

    Raises:
        CourseError: when pip cannot install the course beside what runs; the message says why.
    """
    if drive:
        keep_on_drive()
    before = versions()
    install(before)
    if stale := replaced_while_loaded(before, versions(), sys.modules):
        raise CourseError(
            f"{', '.join(stale)} had been loaded before and was replaced: "
            "choose Runtime > Restart session, then run the notebook again"
        )
    if recipe == release.RUN:
        print(earlier_stages(stage))


def keep_on_drive() -> None:
    """Mount Google Drive, which asks for a permission, and put all runs there."""
    from google.colab import drive

    drive.mount(str(DRIVE))
    os.environ["TRLM_RUNS_DIR"] = str(DRIVE / "MyDrive" / PROJECT_ROOT.name / "runs")


def versions() -> dict[str, str]:
    """Version of every installed package, by its normalised name."""
    found = importlib.metadata.distributions()
    return {_normal(one.metadata["Name"]): one.version for one in found if one.metadata["Name"]}


def constraints(installed: dict[str, str]) -> str:
    """The text of a constraints file that holds the protected packages to their versions."""
    names = map(_normal, PROTECTED)
    return "".join(f"{name}=={installed[name]}\n" for name in names if name in installed)


def install(installed: dict[str, str], options: Iterable[str] = ()) -> None:
    """Install the course's requirements, with the protected packages as they are.

    Args:
        installed: see `versions`.
        options: further options for pip.

    Raises:
        CourseError: when pip fails, for example because a requirement would need another
            version of a protected package.
    """
    keep = PROJECT_ROOT / "runs" / "keep.txt"
    keep.parent.mkdir(exist_ok=True)
    keep.write_text(constraints(installed), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(keep), *options]
    done = subprocess.run([*command, "-e", str(PROJECT_ROOT)], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.splitlines()
        reason = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
        raise CourseError(
            f"pip could not install the course beside what runs here: {' '.join(reason)}"
        )


def replaced_while_loaded(
    before: dict[str, str], after: dict[str, str], loaded: Iterable[str]
) -> list[str]:
    """Packages whose version has changed though one of their modules was loaded already.

    Args:
        before, after: see `versions`.
        loaded: names of loaded modules.
    """
    owners = importlib.metadata.packages_distributions()
    tops = {name.partition(".")[0] for name in loaded}
    names = {_normal(owner) for top in tops for owner in owners.get(top, ())}
    return sorted(name for name in names if name in before and before[name] != after.get(name))


def earlier_stages(stage: str) -> str:
    """Fetch the stages before one from the release; returns a line that says what was done.

    Without a release the line says which command runs them, and how many minutes that took.
    """
    try:
        placed, kept = release.unpack(before=stage)
    except CourseError as error:
        return f"{error}\n{how_to_run(stage)}"
    if not placed and not kept:
        return f"{stage} needs no earlier stage"
    there = f"; there already: {', '.join(kept)}" if kept else ""
    return f"from the release: {', '.join(placed) or 'nothing new'}{there}"


def how_to_run(stage: str) -> str:
    """What runs the stages before one, and the minutes it took on the machine that recorded it."""
    import yaml  # installed by now

    recorded = yaml.safe_load(RECORDED.read_text(encoding="utf-8"))[release.RUN]
    first = {name: one["seconds"] for name, one in recorded["stages"].items() if name < stage}
    if not first:
        return f"{stage} needs no earlier stage"
    minutes = sum(first.values()) / 60
    where = "" if runs_root() == PROJECT_ROOT / "runs" else f" (runs are kept in {runs_root()})"
    return (
        f"{stage} needs the stages before it. This cell runs them, about {minutes:.0f} minutes on "
        f"{recorded['machine']}{where}:\n"
        f"%cd {PROJECT_ROOT}\n"
        f'!pip install -q -c runs/keep.txt -e ".[run]"\n'
        f"!for stage in {' '.join(first)}; do "
        f"{Path(sys.executable).name} -m trlm_utils run {release.RUN} --only $stage || break; done"
    )


def _normal(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
