"""How rented cards run a recipe: a task file of SkyPilot, a command of Hugging Face Jobs.

Both are only printed: they need an account, and cost money. Sources, read in November 2026:
SkyPilot's YAML reference (docs.skypilot.co), and ``hf jobs run --help`` of huggingface_hub 2.4.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from trlm_utils import repository
from trlm_utils.runner.parameters import RecipeError

KINDS = ("sky", "hf")
IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
# What Hugging Face calls the machine that has one such card.
FLAVORS = {"T4": "t4-small", "L4": "l4x1", "L40S": "l40sx1", "A10G": "a10g-small"}
FLAVORS |= {"A100": "a100-large", "H200": "h200"}


def text(kind: str, words: Sequence[str], gpu: str, cards: int = 1) -> str:
    """The task file or the command that runs recipes on one rented machine.

    Args:
        kind: one of `KINDS`.
        words: what follows ``python -m trlm_utils run``, the recipe first.
        gpu: the card's name, as T4 or A100.
        cards: how many of them.

    Raises:
        RecipeError: when Hugging Face has no machine with these cards.
    """
    run = shlex.join(["python", "-m", "trlm_utils", "run", *words])
    return {"sky": _sky, "hf": _hf}[kind](run, Path(words[0]).stem, gpu, cards)


def _sky(run: str, name: str, gpu: str, cards: int) -> str:
    """SkyPilot copies the working directory; ``runs/`` stays on the cluster until it is fetched."""
    return f"""\
# sky launch -c {name} {name}.sky.yaml --secret HF_TOKEN
# then: rsync -a {name}:sky_workdir/runs/ runs/
name: {name}
workdir: .
resources:
  accelerators: {gpu}:{cards}
  disk_size: 100
secrets:
  HF_TOKEN: null  # given on the command line
setup: |
  pip install -q -e .[run]
run: |
  {run}
"""


def _hf(run: str, name: str, gpu: str, cards: int) -> str:
    """A job keeps nothing when it ends: the bucket keeps the run's folder."""
    if gpu not in FLAVORS or cards > 1:
        raise RecipeError(
            f"{cards} x {gpu}: Hugging Face Jobs has one of {', '.join(FLAVORS)} here"
        )
    clone = f"git clone -q --depth 1 --branch {repository.tag()} {repository.address()} course"
    inside = f"apt-get update -q && apt-get install -yq git && {clone} && cd course"
    inside += f" && pip install -q -e '.[run]' && TRLM_RUNS_DIR=/runs {run}"
    command = ["hf", "jobs", "run", "--flavor", FLAVORS[gpu], "--timeout", "24h", "--detach"]
    command += ["--secrets", "HF_TOKEN", "--volume", f"hf://buckets/OWNER/{name}:/runs"]
    return shlex.join([*command, IMAGE, "bash", "-c", inside])
