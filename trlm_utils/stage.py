"""A stage's folder: open it, read the outputs of earlier stages, write results safely.

A stage is one notebook's part of a run. It owns the folder ``runs/<recipe>/<stage>/`` and
writes there ``model/``, ``data/``, ``figures/``, ``metrics.json``, ``log_history.csv`` and,
last, ``manifest.json``. Some stages write further models, in ``step_<n>/`` and ``process/``.
Stages exchange data through these files only. Every file is written under a temporary name
and renamed when complete, so an interruption never leaves half a file under a final name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trlm_utils import energy, progress, ranks
from trlm_utils.files import (
    CourseError,
    read_json,
    read_rows,
    runs_root,
    shown,
    write_json,
    write_rows,
    write_text,
)
from trlm_utils.machine import package_versions, peak_device_memory_mb, peak_memory_mb

STARTED = "TRLM_STAGE_STARTED"  # environment variable set by the runner: start of this stage
NO_OUTPUTS = ("checkpoints", "figures", "tracker")  # folders that no later stage reads


@dataclass
class Stage:
    """An open stage folder; see `open_stage`."""

    name: str
    recipe: str
    seed: int
    run_dir: Path
    started: float = field(default_factory=time.time)
    joules: float | None = field(default_factory=energy.joules)  # energy counter at the start
    startup_seconds: float = 0.0  # kernel start and imports, if the runner started the stage

    @property
    def folder(self) -> Path:
        """This stage's own folder; of ranks above 0 a folder of their own (`runner.torchrun`)."""
        if ranks.rank():
            return ranks.folder(self.run_dir, self.name) / str(ranks.rank())
        return self.run_dir / self.name

    @property
    def checkpoints(self) -> Path:
        """Folder of the trainer's checkpoints, for all ranks; removed at the stage's end."""
        return self.run_dir / self.name / "checkpoints"

    def input(self, stage: str, path: str) -> Path:
        """Path of a file or folder that an earlier stage wrote.

        Raises:
            CourseError: when it does not exist; names the notebook to run first.
        """
        found = self.run_dir / stage / path
        if not found.exists():
            raise CourseError(
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

    def load_model(
        self, stage: str, attention: str = "", dtype: str = "float32"
    ) -> tuple[Any, Any]:
        """Model (on the device) and tokenizer of an earlier stage.

        Args:
            attention, dtype: see `models.load_model`.

        Raises:
            CourseError: when the folder is missing.
            ModelFolderError: when it is incomplete.
        """
        from trlm_utils.models import load_model

        return load_model(self.input(stage, "model"), attention, dtype)

    def save_model(self, model: Any, tokenizer: Any) -> None:
        """Save model and tokenizer to this stage's ``model/``, completely or not at all.

        All ranks call it; rank 0 saves the model, gathered where its weights are divided.
        """
        from trlm_utils.inference_copy import whole
        from trlm_utils.models import save_model

        model = whole(model, "cpu")
        if ranks.rank() == 0:
            save_model(model, tokenizer, self.folder / "model")

    def save_log(self, trainer: Any) -> Any:
        """Write the trainer's log as ``log_history.csv``; returns it as a data frame.

        Columns are sorted alphabetically: a checkpoint stores them so, and a resumed training
        must give the same file as an uninterrupted one.
        """
        import pandas as pd

        frame = pd.DataFrame(trainer.state.log_history).sort_index(axis="columns")
        write_text(self.folder / "log_history.csv", frame.to_csv(index=False))
        return frame

    def save_figure(self, figure: Any, name: str, table: Any) -> None:
        """Write a figure as .svg and .png, and the table it was drawn from as .csv."""
        from trlm_utils.plots import save_figure

        save_figure(figure, self.folder / "figures" / name, table)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write metrics and manifest, remove checkpoints, and print the stage's folder.

        The manifest gets the status "finished" only after all results are written, and after
        every rank has come this far.
        """
        ranks.wait()
        metrics = metrics | {"peak_device_mb": round(peak_device_memory_mb(), 1)}
        write_json(self.folder / "metrics.json", metrics)
        place = self.folder / "manifest.json"
        begun = read_json(place) if place.exists() else {}  # entries by the runner
        manifest = begun | {
            "stage": self.name,
            "recipe": self.recipe,
            "seed": self.seed,
            "status": "finished",
            "wall_seconds": round(time.time() - self.started, 1),
            "startup_seconds": round(self.startup_seconds, 1),
            "decoding_seconds": round(progress.spent("completions"), 1),
            "peak_rss_mb": round(peak_memory_mb(), 1),
            "joules": energy.spent(self.joules, energy.joules()),
            "versions": package_versions(),
            "outputs": outputs_digest(self.folder),
        }
        write_json(place, manifest)
        if ranks.rank() == 0:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        (self.folder / progress.NAME).unlink(missing_ok=True)
        print(f"{self.name} finished: {shown(self.folder)}")


def outputs_digest(folder: Path) -> str:
    """SHA-256 over names and bytes of a stage's data and models: all folders but `NO_OUTPUTS`."""
    digest = hashlib.sha256()
    inside = (path for path in folder.glob("*/**/*") if path.is_file())
    for path in sorted(inside):
        if path.relative_to(folder).parts[0] not in NO_OUTPUTS:
            digest.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def open_stage(name: str, recipe: str, seed: int, run_dir: str = "") -> Stage:
    """Open a stage: make its folder, set all seeds, silence the libraries' progress bars.

    Args:
        name: the stage's name, which is also the folder's name.
        recipe: recipe the stage belongs to.
        seed: seeds python, numpy and torch.
        run_dir: folder of the run; empty means ``runs/<recipe>``.

    Raises:
        CourseError: when the folder cannot be written.
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
        raise CourseError(f"cannot write to {shown(stage.folder)}: {error}") from None
    progress.follow(stage.folder)
    return stage
