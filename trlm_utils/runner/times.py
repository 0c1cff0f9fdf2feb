"""Predict how long a recipe takes on this machine: recorded seconds, scaled by the probe.

``recorded.yaml`` has, for each recipe at each scale, the seconds of its stages and the speeds
(`probe.Speed`) of the machine that recorded them. ``python -m trlm_utils record RECIPE``
replaces the entry of a recipe by its last run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trlm_utils import machine
from trlm_utils.files import CourseError, write_text
from trlm_utils.runner import probe
from trlm_utils.runner.digest import inputs_digest, read_manifest, says_finished
from trlm_utils.runner.parameters import WIRING
from trlm_utils.runner.probe import Speed
from trlm_utils.runner.progress import duration
from trlm_utils.runner.recipes import Plan, StagePlan

RECORDED = Path(__file__).with_name("recorded.yaml")
SHORT = 30.0  # seconds: a run that was recorded as shorter is not worth a probe
HEAD = """\
# Seconds of finished runs, and what the machine that made them does: tokens per second of
# training and decoding, seconds of start-up (runner/probe.py). Of a stage's seconds, those of
# start-up and decoding are named; the others count as training. memory_mb is the peak of memory.
# Written by `python -m trlm_utils record RECIPE`.
"""


def key(plan: Plan) -> str:
    """Key of a recipe at a scale: ``nano``, ``trlm-full``."""
    return plan.recipe if plan.scale == "nano" else f"{plan.recipe}-{plan.scale}"


def settings(stage: StagePlan) -> str:
    """Hash (8 hex digits) of a stage's parameters, without those that the runner sets."""
    own = {name: value for name, value in stage.parameters.items() if name not in WIRING}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]


def load(place: Path = RECORDED) -> dict[str, Any]:
    """All recorded entries."""
    import yaml

    return yaml.safe_load(place.read_text(encoding="utf-8")) or {}


def to_run(stages: Sequence[StagePlan], folder: Path, force: bool) -> list[StagePlan]:
    """The stages that are not finished with their current inputs; all with ``force``."""
    found: list[StagePlan] = []
    for stage in stages:
        again = {other.stage for other in found}
        manifest = read_manifest(folder / stage.stage)
        anew = force or again & set(stage.reads)
        if anew or not says_finished(manifest, inputs_digest(stage, folder)):
            found.append(stage)
    return found


def predict(entry: dict[str, Any], stages: Sequence[StagePlan], here: Speed) -> float:
    """Predicted seconds of stages on a machine.

    Each stage's recorded seconds are split into start-up, decoding and the rest. Each part is
    scaled by the ratio of the two machines' speeds for it.

    Args:
        entry: an entry of `load` that contains every stage.
        here: speeds of the machine.
    """
    there = probe.known(entry["probe"])
    return sum(scaled(entry["stages"][s.stage], there, here)["seconds"] for s in stages)


def scaled(stage: dict[str, Any], there: Speed, here: Speed) -> dict[str, Any]:
    """A recorded stage as another machine would take for it."""
    rest = max(0.0, stage["seconds"] - stage["startup"] - stage["decoding"])
    startup = stage["startup"] * here.startup / there.startup
    decoding = stage["decoding"] * there.decoding / here.decoding
    seconds = startup + decoding + rest * there.training / here.training
    return stage | {"seconds": seconds, "startup": startup, "decoding": decoding}


def announce(
    plan: Plan, stages: Sequence[StagePlan], memory: Path, recorded: Path = RECORDED
) -> tuple[str, Speed | None]:
    """A line that says how long stages will take on this machine, and the machine's speeds.

    Args:
        stages: the stages to run (`to_run`).
        memory: file of the last probe.
    """
    entry = load(recorded).get(key(plan))
    if not entry or any(stage.stage not in entry["stages"] for stage in stages):
        return "not recorded yet: time unknown", None
    there = probe.known(entry["probe"])
    seconds = sum(entry["stages"][stage.stage]["seconds"] for stage in stages)
    told = f"recorded on {entry['machine']}: {speeds(there)}"
    here = None if seconds < SHORT else probe.this_machine(plan.stages[0].parameters, memory)
    if here is None:
        line = f"about {duration(seconds)}, as {told}"
    else:
        took = duration(predict(entry, stages, here))
        line = f"about {took} on this machine (probe: {speeds(here)}; {told})"
    if any(entry["stages"][s.stage]["settings"] != settings(s) for s in stages):
        line += "; settings differ from the recorded ones, so it may be far off"
    return line, here


def speeds(of: Speed) -> str:
    """Speeds as text: ``20,100 training and 7,900 decoding tokens/s, start-up 6 s``."""
    return (
        f"{of.training:,.0f} training and {of.decoding:,.0f} decoding tokens/s, "
        f"start-up {of.startup:.0f} s"
    )


def record(plan: Plan, folder: Path, memory: Path, place: Path = RECORDED) -> str:
    """Write a recipe's entry from its finished run; returns a line to print.

    Stages that other recipes added to this entry stay, scaled to this machine.

    Args:
        memory: file of the last probe.

    Raises:
        CourseError: when a stage is not finished, or this machine cannot be measured.
    """
    import yaml

    stages, here = {}, None
    for stage in plan.stages:
        manifest = read_manifest(folder / stage.stage)
        if manifest.get("status") != "finished":
            if stage.stage in plan.spare:
                continue
            raise CourseError(f"{stage.stage} is not finished: run {plan.recipe} first")
        stages[stage.stage] = {
            "seconds": manifest["wall_seconds"],
            "startup": manifest.get("startup_seconds", 0.0),
            "decoding": manifest.get("decoding_seconds", 0.0),
            "memory_mb": round(manifest["peak_rss_mb"]),
            "settings": settings(stage),
        }
        here = probe.known(manifest.get("probe")) or here
    # for a recipe without an entry there was no probe at the start of the run
    here = here or probe.this_machine(plan.stages[0].parameters, memory)
    if here is None:
        raise CourseError("this machine could not be measured: python -m trlm_utils.runner.probe")
    content = load(place)
    content[key(plan)] = {
        "machine": f"{machine.cores()} cores",
        "probe": asdict(here),
        "stages": stages | _others(content.get(key(plan)), stages, here),
    }
    write_text(place, HEAD + yaml.safe_dump(content, sort_keys=False))
    return f"{key(plan)}: {duration(sum(s['seconds'] for s in stages.values()))} recorded"


def _others(before: dict[str, Any] | None, stages: Container[str], here: Speed) -> dict[str, Any]:
    """Stages of an earlier entry that are none of these, scaled from its machine to this one."""
    if not before:
        return {}
    there = probe.known(before["probe"])
    found = {}
    for name, one in before["stages"].items():
        if name not in stages:
            new = scaled(one, there, here)
            found[name] = new | {
                part: round(new[part], 1) for part in ("seconds", "startup", "decoding")
            }
    return found
