"""How rented cards run a recipe: a task file of SkyPilot, a command of Hugging Face Jobs.

Both are only printed: they need an account, and cost money. Sources, read in November 2026:
SkyPilot's YAML reference (docs.skypilot.co), and ``hf jobs run --help`` of huggingface_hub 2.4.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from trlm_utils import repository
from trlm_utils.runner.parameters import RecipeError

KINDS = ("sky", "hf")
IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
# What Hugging Face calls the machine that has one such card.
FLAVORS = {"T4": "t4-small", "L4": "l4x1", "L40S": "l40sx1", "A10G": "a10g-small"}
FLAVORS |= {"A100": "a100-large", "H200": "h200"}


def text(kind: str, recipe: Sequence[str], scale: str, seeds: str, gpu: str) -> str:
    """The task file or the command that runs recipes on one rented card.

    Args:
        kind: one of `KINDS`.
        seeds: as on the command line, ``0,1,2``.
        gpu: the card's name, as T4 or A100.

    Raises:
        RecipeError: when Hugging Face has no machine with this card.
    """
    return {"sky": _sky, "hf": _hf}[kind](_run(recipe, scale, seeds), recipe[0], gpu)


def _run(recipe: Sequence[str], scale: str, seeds: str) -> str:
    return shlex.join(
        ["python", "-m", "trlm_utils", "run", *recipe, "--scale", scale, "--seed", seeds]
    )


def _sky(run: str, name: str, gpu: str) -> str:
    """SkyPilot copies the working directory; ``runs/`` stays on the cluster until it is fetched."""
    return f"""\
# sky launch -c {name} {name}.sky.yaml      then: rsync -a {name}:sky_workdir/runs/ runs/
name: {name}
workdir: .
resources:
  accelerators: {gpu}:1
  disk_size: 100
secrets:
  HF_TOKEN: null  # given with: --secret HF_TOKEN
setup: |
  pip install -q -e .[run]
run: |
  {run}
"""


def _hf(run: str, name: str, gpu: str) -> str:
    """A job keeps nothing when it ends: the bucket keeps the run's folder."""
    if gpu not in FLAVORS:
        raise RecipeError(f"--gpu {gpu}: Hugging Face Jobs has {', '.join(FLAVORS)}")
    clone = f"git clone -q --depth 1 --branch {repository.tag()} {repository.address()} course"
    inside = f"apt-get update -q && apt-get install -yq git && {clone} && cd course"
    inside += f" && pip install -q -e '.[run]' && TRLM_RUNS_DIR=/runs {run}"
    command = ["hf", "jobs", "run", "--flavor", FLAVORS[gpu], "--timeout", "24h", "--detach"]
    command += ["--secrets", "HF_TOKEN", "--volume", f"hf://buckets/OWNER/{name}:/runs"]
    return shlex.join([*command, IMAGE, "bash", "-c", inside])
