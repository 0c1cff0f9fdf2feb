"""Experiment trackers: trackio, W&B and TensorBoard, each through its callback in transformers.

A tracker gets what the trainer logs: loss, rate, reward and its parts, held-out accuracy. All
of it stays on this machine, unless W&B has a key (WANDB_API_KEY) or the tracker's own
variables name a place elsewhere (TRACKIO_SPACE_ID):

- ``tensorboard``: in ``tracker/`` of the stage's folder; look with
  ``tensorboard --logdir runs/nano``;
- ``trackio``: in ``trackio/`` of the run's folder; look with
  ``TRACKIO_DIR=runs/nano/trackio trackio show``;
- ``wandb``: in ``tracker/`` of the stage's folder; send later with ``wandb sync FOLDER``.

trackio reads TRACKIO_DIR when it is imported, and TRL's GRPO trainer imports it. The runner
sets it before; in Jupyter, without the runner, it has to be in the environment, else trackio's
own default folder is used.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from typing import Any

from trlm_utils import keys
from trlm_utils.files import CourseError, read_json, write_json
from trlm_utils.stage import Stage

NAMES = ("none", "trackio", "wandb", "tensorboard")
# Variables that a tracker needs in its process, and that the runner takes away otherwise.
VARIABLES = {"wandb": ("WANDB_API_KEY", "WANDB_MODE")}


def check(name: str) -> None:
    """Check that a tracker can be used here.

    Raises:
        CourseError: when it is not known or not installed.
    """
    if name not in NAMES:
        raise CourseError(f"TRACKER is {name!r}: is one of {', '.join(NAMES)}")
    if name != "none" and importlib.util.find_spec(name) is None:
        raise CourseError(f"TRACKER is {name!r}, which is not installed: pip install {name}")


def settings(name: str, stage: Stage) -> dict[str, Any]:
    """Settings of a trainer's configuration that make it log to a tracker.

    Set environment variables of the tracker that are not set yet. Training is not changed:
    its log, weights and random numbers of torch are the same without a tracker.

    Args:
        name: one of `NAMES`.

    Returns:
        ``report_to``, and ``run_name`` and ``project`` if there is a tracker.

    Raises:
        CourseError: see `check`.
    """
    check(name)
    if name == "none":
        return {"report_to": "none"}
    run = run_name(stage)
    _prepare(name, stage, run)
    return {"report_to": name, "run_name": run, "project": stage.recipe}


def run_name(stage: Stage) -> str:
    """Name of the tracker's run: recipe, stage, seed, and when the training began (UTC).

    It is kept beside the checkpoints, so a training that is resumed goes on in its run, and
    one that starts again has a new run.
    """
    place = stage.checkpoints / "tracker.json"
    if not place.exists():
        began = time.strftime("%m%d-%H%M%S", time.gmtime())
        write_json(place, {"run": f"{stage.recipe}/{stage.name}/seed-{stage.seed}/{began}"})
    return read_json(place)["run"]


def _prepare(name: str, stage: Stage, run: str) -> None:
    """Tell a tracker, through its environment variables, where to write and which run."""
    folder = stage.folder / "tracker"
    folder.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        # not setdefault: the variable may be of another stage, in the same process
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / run.rpartition("/")[2])
    elif name == "trackio":
        os.environ.setdefault("TRACKIO_DIR", str(stage.run_dir / "trackio"))
        _without_dashboard()
    elif name == "wandb":
        if key := keys.find("WANDB_API_KEY"):
            os.environ["WANDB_API_KEY"] = key
        os.environ.setdefault("WANDB_MODE", "online" if key else "offline")
        os.environ.setdefault("WANDB_PROJECT", keys.find("WANDB_PROJECT") or stage.recipe)
        os.environ.setdefault("WANDB_SILENT", "true")
        own = {
            "WANDB_DIR": folder,
            "WANDB_RUN_ID": run.replace("/", "-")[-64:],
            "WANDB_RESUME": "allow",
        }
        os.environ.update({name: str(value) for name, value in own.items()})


def _without_dashboard() -> None:
    """Keep trackio from starting a server and showing its page in the notebook.

    transformers' callback calls ``trackio.init`` without ``embed``, which is True by default.
    """
    import trackio

    trackio.init = functools.partial(trackio.init, embed=False)
