"""A stage's folder: open it, read what earlier stages left, write results safely.

A stage owns ``runs/<recipe>/<stage>/`` and writes there ``model/``, ``data/``,
``figures/``, ``metrics.json``, ``log_history.csv`` and, last, ``manifest.json``.
Nothing else passes between stages. Every file is written beside its place and moved
there when complete, so an interruption never leaves half a file under a final name.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trlm_utils import energy

PROJECT_ROOT = Path(__file__).resolve().parents[1]
STARTED = "TRLM_STAGE_STARTED"  # set by the runner: when it began this stage
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "datasets",
    "peft",
    "lm-eval",
    "math-verify",
)


class StageError(RuntimeError):
    """Something a stage needs is missing or wrong; the message says what to do."""


def runs_root() -> Path:
    """Where runs go: $TRLM_RUNS_DIR, else ``runs/`` in the project."""
    return Path(os.environ.get("TRLM_RUNS_DIR") or PROJECT_ROOT / "runs")


def shown(path: Path) -> str:
    """A path for people: relative to the project, so no home folder gets printed."""
    path = Path(path).resolve()
    if path.is_relative_to(PROJECT_ROOT):
        return str(path.relative_to(PROJECT_ROOT))
    return str(Path("...", *path.parts[-3:]))


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StageError: when the file is missing or not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{shown(path)} is missing") from None
    except json.JSONDecodeError as error:
        raise StageError(f"{shown(path)} is damaged ({error})") from None


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write JSON lines completely or not at all; returns the number of rows."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(path, "".join(f"{line}\n" for line in lines))
    return len(lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines.

    Raises:
        StageError: when the file is missing, or a line is cut off or not JSON; the
            message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise StageError(f"{shown(path)} is missing")
    rows = []
    # Not splitlines(): text may hold other line separators, such as U+2028.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            raise StageError(
                f"{shown(path)}, line {number}, is not complete JSON: "
                "the file is cut off or damaged; fetch it again"
            ) from None
    return rows


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on, for manifests and reports."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MiB (0 where unknown)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


@dataclass
class Stage:
    """An open stage folder; see `open_stage`."""

    name: str
    recipe: str
    seed: int
    run_dir: Path
    started: float = field(default_factory=time.time)
    joules: float | None = field(default_factory=energy.joules)  # the counter at the start
    startup_seconds: float = 0.0  # kernel start and imports, where a runner started it

    @property
    def folder(self) -> Path:
        """This stage's own folder."""
        return self.run_dir / self.name

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps checkpoints until the stage is finished."""
        return self.folder / "checkpoints"

    def input(self, stage: str, path: str) -> Path:
        """A file or folder that an earlier stage wrote.

        Raises:
            StageError: when it is not there; names the notebook to run first.
        """
        found = self.run_dir / stage / path
        if not found.exists():
            raise StageError(
                f"{self.name} needs {shown(found)}: run notebook {stage} of recipe "
                f"{self.recipe} first"
            )
        return found

    def rows(self, stage: str, name: str) -> list[dict[str, Any]]:
        """Rows of a data set that an earlier stage wrote to its ``data/``."""
        return read_rows(self.input(stage, f"data/{name}.jsonl"))

    def save_rows(self, name: str, rows: Iterable[dict[str, Any]]) -> int:
        """Write a data set to this stage's ``data/``; returns the number of rows."""
        return write_rows(self.folder / "data" / f"{name}.jsonl", rows)

    def load_model(self, stage: str) -> tuple[Any, Any]:
        """Model (fp32) and tokenizer of an earlier stage.

        Raises:
            StageError: when the folder is missing or half written.
        """
        from trlm_utils.models import load_model

        return load_model(self.input(stage, "model"))

    def save_model(self, model: Any, tokenizer: Any) -> None:
        """Write the model to this stage's ``model/``, whole or not at all."""
        from trlm_utils.models import save_model

        save_model(model, tokenizer, self.folder / "model")

    def save_log(self, trainer: Any) -> Any:
        """Write the trainer's log as ``log_history.csv``; returns it as a data frame."""
        import pandas as pd

        frame = pd.DataFrame(trainer.state.log_history)
        write_text(self.folder / "log_history.csv", frame.to_csv(index=False))
        return frame

    def save_figure(self, figure: Any, name: str, table: Any) -> None:
        """Write a figure as .svg and .png with the table behind it as .csv."""
        from trlm_utils.plots import save_figure

        save_figure(figure, self.folder / "figures" / name, table)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write metrics and manifest, remove checkpoints, and say what comes next.

        The manifest comes last: a stage without one is not finished.
        """
        write_json(self.folder / "metrics.json", metrics)
        place = self.folder / "manifest.json"
        begun = read_json(place) if place.exists() else {}  # what the runner wrote
        manifest = begun | {
            "stage": self.name,
            "recipe": self.recipe,
            "seed": self.seed,
            "status": "finished",
            "wall_seconds": round(time.time() - self.started, 1),
            "startup_seconds": round(self.startup_seconds, 1),
            "peak_rss_mb": round(peak_memory_mb(), 1),
            "joules": energy.spent(self.joules, energy.joules()),
            "versions": package_versions(),
            "outputs": outputs_digest(self.folder),
        }
        write_json(place, manifest)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        print(f"{self.name} finished: {shown(self.folder)}")


def outputs_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of ``model/``, ``data/`` and kept checkpoints."""
    digest = hashlib.sha256()
    kept = sorted(path.name for path in folder.glob("step_*"))
    for path in sorted(p for sub in ("model", "data", *kept) for p in (folder / sub).rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def open_stage(name: str, recipe: str, seed: int, run_dir: str = "") -> Stage:
    """Open a stage: make its folder, seed everything, keep libraries quiet and local.

    Args:
        name: the stage, which is also the folder's name.
        recipe: recipe the stage belongs to.
        seed: seeds python, numpy and torch.
        run_dir: folder of the run; empty means ``runs/<recipe>``.

    Raises:
        StageError: when the folder cannot be written.
    """
    import datasets
    from transformers import set_seed
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    set_seed(seed)
    stage = Stage(name, recipe, seed, Path(run_dir) if run_dir else runs_root() / recipe)
    if began := os.environ.get(STARTED):
        stage.startup_seconds = stage.started - float(began)
    try:
        stage.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageError(f"cannot write to {shown(stage.folder)}: {error}") from None
    return stage
