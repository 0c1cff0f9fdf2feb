"""The report of a recipe, as HTML, Markdown and JSON.

It combines the results in the stages' folders. Nothing is computed here except the pooling
of accuracies and differences over seeds.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from trlm_utils.evaluation.ladder import key_of
from trlm_utils.evaluation.pooling import (
    asked_otherwise,
    differences,
    means,
    over_base,
    pooled,
    read_records,
    seed_folders,
)
from trlm_utils.files import read_json, read_rows, write_json, write_text
from trlm_utils.machine import package_versions
from trlm_utils.runner import pages

POOLED = ("accuracy", "low", "high", "seeds", "df")  # columns of `pooling.means`
EXTRAS = (
    "by_steps",
    "styles",
    "pass_at_k",
    "published",
    "voting",
)  # further tables of the evaluation


def collect(plan: Any, base: Path, arms: Any = None) -> dict[str, Any]:
    """The content of report.json.

    Args:
        plan: a checked recipe (`recipes.Plan`); gives the order of stages.
        base: folder of the run with seed 0; runs of other seeds are inside it.
        arms: table of the recipe's arms (`trlm_utils.evaluation.arms.table`).
    """
    stages, ladder, comparisons, notes = [], [], [], []
    extras: dict[str, list[dict[str, Any]]] = {name: [] for name in EXTRAS}
    seeds: list[int] = []
    places: list[Path] = []
    asking = [stage for stage in plan.stages if "EVALUATE" in stage.parameters]
    otherwise = asked_otherwise({s.stage: s.parameters.get("SYSTEM_PROMPT") for s in asking})
    for seed, folder in seed_folders(base).items():
        found = [_stage_entry(folder / s.stage, seed) for s in plan.stages]
        found = [entry for entry in found if entry]
        if found:
            seeds.append(seed)
        stages += found
        for stage in plan.stages:
            place = folder / stage.stage / "data"
            if stage.stage not in otherwise and (place / "ladder.jsonl").is_file():
                ladder += read_rows(place / "ladder.jsonl")
                rows = read_rows(place / "comparisons.jsonl")
                comparisons += [row | {"seed": seed} for row in rows]
                places.append(place)
                for name in EXTRAS:
                    if (place / f"{name}.jsonl").is_file():
                        rows = read_rows(place / f"{name}.jsonl")
                        extras[name] += [row | {"seed": seed} for row in rows]
    evaluated = list(dict.fromkeys(row["stage"] for row in ladder))
    records = read_records(places, evaluated)
    with_pooled(ladder, [row for stage in evaluated for row in means(stage, records)])
    for entry in stages:
        notes += [f"{entry['stage']}: {n}" for n in entry["metrics"].get("notes", [])]
    price = plan.dollars_per_hour
    return {
        "recipe": plan.recipe,
        "about": plan.about,
        "scale": plan.scale,
        "seeds": seeds,
        "result": plan.result,
        "deviations": list(plan.deviations),
        "price": {"dollars_per_hour": price, "for": plan.machine},
        "totals": totals(stages, price),
        "arms": side_by_side(arms, stages, price) if arms is not None else [],
        "environment": package_versions() | _device(stages),
        "stages": stages,
        "ladder": ladder,
        "comparisons": pooled(comparisons, records) if len(places) > 1 else comparisons,
        "over_base": over_base(evaluated[0], evaluated[1:], records) if evaluated else [],
        "pairs": differences(list(itertools.combinations(evaluated, 2)), records),
        **extras,
        "notes": list(dict.fromkeys(notes)),
    }


def with_pooled(ladder: list[dict[str, Any]], pooled_rows: list[dict[str, Any]]) -> None:
    """Add to each row of the ladder the interval over all seeds (columns ``pooled_...``)."""
    known = {(r["stage"], *key_of(r)): r for r in pooled_rows}
    for row in ladder:
        found = known.get((row["stage"], *key_of(row)))
        if found:
            row |= {f"pooled_{name}": found[name] for name in POOLED}


def _stage_entry(folder: Path, seed: int) -> dict[str, Any] | None:
    if not (folder / "metrics.json").is_file():
        return None
    manifest, metrics = (read_json(folder / f"{n}.json") for n in ("manifest", "metrics"))
    if manifest.get("status") != "finished":
        return None
    return {
        "stage": folder.name,
        "seed": seed,
        "wall_seconds": manifest["wall_seconds"],
        "startup_seconds": manifest.get("startup_seconds", 0.0),
        "peak_rss_mb": manifest["peak_rss_mb"],
        "tokens": metrics.get("tokens", 0),
        "trainable_parameters": metrics.get("trainable_parameters", 0),
        "joules": manifest.get("joules"),
        "metrics": metrics,
    }


def totals(stages: list[dict[str, Any]], dollars_per_hour: float) -> dict[str, Any]:
    """Mean cost of one seed: minutes, tokens, dollars, joules, trainable parameters.

    Joules are None if they are unknown for a stage. Trainable parameters are the largest
    number of any stage.
    """
    seeds = max(1, len({stage["seed"] for stage in stages}))
    seconds = sum(stage["wall_seconds"] for stage in stages) / seeds
    joules = [stage["joules"] for stage in stages]
    return {
        "minutes": seconds / 60,
        "tokens": sum(stage["tokens"] for stage in stages) / seeds,
        "dollars": seconds / 3600 * dollars_per_hour,
        "joules": None if None in joules or not joules else sum(joules) / seeds,
        "trainable_parameters": max((s["trainable_parameters"] for s in stages), default=0),
    }


def side_by_side(
    arms: Any, stages: list[dict[str, Any]], dollars_per_hour: float
) -> list[dict[str, Any]]:
    """Rows of `trlm_utils.evaluation.arms.table` with the cost of each arm's own training."""
    taken = {
        name: totals([s for s in stages if s["stage"] == name], dollars_per_hour)
        for name in {stage["stage"] for stage in stages}
    }
    steps = {stage["stage"]: stage["metrics"].get("steps") for stage in stages}
    rows = []
    for row in arms.to_dict("records"):
        kept = {k: (None if v != v else v) for k, v in row.items()}  # JSON has no NaN
        stage, _, step = row["stage"].partition("/step_")
        cost = {f"training_{name}": v for name, v in taken.get(stage, {}).items()}
        if step and steps.get(stage):  # a checkpoint took a part of the stage's training
            part = int(step) / steps[stage]
            cost |= {
                f"training_{n}": part * taken[stage][n] for n in ("minutes", "tokens", "dollars")
            }
        rows.append(kept | cost)
    return rows


def _device(stages: list[dict[str, Any]]) -> dict[str, str]:
    devices = {s["metrics"]["device"] for s in stages if "device" in s["metrics"]}
    return {"device": ", ".join(sorted(devices))} if devices else {}


def write(plan: Any, base: Path, arms: Any = None) -> Path:
    """Write report.json, report.md and report.html; returns their folder."""
    content = collect(plan, base, arms)
    write_json(base / "report.json", content)
    write_text(base / "report.md", pages.report_markdown(content))
    write_text(base / "report.html", pages.report_html(content))
    return base
