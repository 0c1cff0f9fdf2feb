"""Verify (dry-run) a full-scale recipe without network or GPU, in a short time.

The same runner and notebooks run every stage with the recipe's own settings, with three
replacements. The model has two layers of the real architecture, with random weights and the
chat template of its family. The Hub is a folder with rows in the schema of the real data
sets. Each stage trains one step. Groups keep their size, and every stage runs its pre-flight
checks. This verifies that every configuration is valid, that every stage accepts the format of
the data, and which checks pass. It does not verify results, speed or memory of the full run.

    python -m trlm_utils verify trlm
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils.files import PROJECT_ROOT, read_json, shown, write_text
from trlm_utils.runner import parameters, pipeline, recipe_file, recipes
from trlm_utils.runner.kernel import RunFailed

MIRROR = PROJECT_ROOT / "tests" / "fixtures" / "hub"
FILES = PROJECT_ROOT / "tests" / "fixtures" / "files"  # GSM8K and MATH as folders

# Parameter -> value that makes a stage small. All other parameters stay those of the recipe.
STAND_INS: dict[str, Any] = {
    "BASE_MODEL": "",  # two layers of the real architecture with random weights
    "HIDDEN_SIZE": 32,
    "BASE_PROBLEMS": 0,
    "MAX_POSITIONS": 8192,
    "HUB_MIRROR": str(MIRROR),
    "SUITE_DIR": str(MIRROR),
    "SUITE_QUESTIONS": 2,
    "MAX_STEPS": 1,
    "SAVE_STEPS": 1,
    "BATCH_SIZE": 2,
    "ACCUMULATION": 1,
    "EVAL_PER_BAND": 2,
    "EVAL_BANDS": {},
    "SAMPLES": 1,
    "EVAL_BATCH": 4,
    "MAX_NEW_TOKENS": 8,
    "LOOK_EVERY": 1,
    "PROMPTS_PER_STEP": 2,
    "PROBE_PROMPTS": 2,
    "BENCH_PROBLEMS": 2,
    "PAIRS": "dataset",  # a model with random weights is never right
    "TRACKER": "none",
    "PUSH_TO": "",
}
# Pre-flight checks of a model's quality, which a model with random weights cannot pass.
OF_RANDOM_WEIGHTS = {
    "zero-variance groups": "the stand-in has random weights and is never right",
    "completions clipped": "the stand-in has random weights and 8 tokens",
}


def substitutions(plan: recipes.Plan) -> list[str]:
    """``--set`` texts that replace parameters which are too large or need the network."""
    texts = []
    for stage in plan.stages:
        for name, value in STAND_INS.items():
            if name in stage.parameters and stage.parameters[name] != value:
                texts.append(f"{stage.stage}.{name}={json.dumps(value)}")
        if "MICRO_BATCH" in stage.parameters:
            texts.append(f"{stage.stage}.MICRO_BATCH={_micro_batch(stage.parameters)}")
        if "PROBE_PROMPTS" in stage.parameters and "ALLOW_FAILED" in stage.parameters:
            allowed = OF_RANDOM_WEIGHTS | stage.parameters["ALLOW_FAILED"]
            texts.append(f"{stage.stage}.ALLOW_FAILED={json.dumps(allowed)}")
        if "EVALUATE" in stage.parameters:
            texts.append(f"{stage.stage}.EVALUATE={json.dumps(_few(stage.parameters['EVALUATE']))}")
    return texts


def _micro_batch(values: dict[str, Any]) -> int:
    """The recipe's MICRO_BATCH, or one group if it no longer divides the smaller step."""
    total = STAND_INS["PROMPTS_PER_STEP"] * values["GROUP_SIZE"]
    given = values["MICRO_BATCH"]
    return given if given <= total and total % given == 0 else values["GROUP_SIZE"]


def _few(models: Sequence[str]) -> list[str]:
    """The first and last model and one checkpoint, that of step 1, as training has one step."""
    steps = [re.sub(r"/step_\d+$", "/step_1", name) for name in models if "/step_" in name]
    return list(dict.fromkeys([models[0], *steps[:1], models[-1]]))


def run(recipe: str, scale: str, overrides: Sequence[str] = ()) -> int:
    """Run the verification and write ``verified.md``; returns the exit status.

    Raises:
        RecipeError: when the recipe itself is wrong.
        RunFailed: when a stage does not build or does not take its one step.
    """
    name = recipe_file.find_recipe(recipe).stem
    folder = pipeline.run_folder(name, f"{scale}-verified", 0)
    files = []  # a recipe that needs a data folder is invalid without one
    if "{DATA_DIR}" in recipe_file.find_recipe(recipe).read_text(encoding="utf-8"):
        files = [f"01_data_curation.DATA_DIR={json.dumps(str(FILES))}"]
    full = recipes.load_plan(recipe, scale, 0, [*overrides, *files], str(folder))
    changed = [*files, *substitutions(full)]
    small = recipes.load_plan(recipe, scale, 0, [*overrides, *changed], str(folder))
    offline = dataclasses.replace(small, needs_hub=False, groups={})  # no results to compare
    with pipeline.locked(folder):
        pipeline.run_plan(offline, folder)
        check_preflights(offline, folder)
    write_text(folder / "verified.md", as_markdown(full, changed, folder))
    print(f"report: {shown(folder / 'verified.md')}")
    return 0


def check_preflights(plan: recipes.Plan, folder: Path) -> None:
    """Check that every stage with a pre-flight ran it, and that no check failed unless allowed.

    Raises:
        RunFailed: names the stage.
    """
    for stage in plan.stages:
        allowed = stage.parameters.get("ALLOW_FAILED")
        metrics = read_json(folder / stage.stage / "metrics.json")
        if allowed is None or not metrics.get("steps"):
            continue
        checks = metrics.get("preflight") or {}
        failed = [name for name, ok in checks.items() if not ok and name not in allowed]
        if failed or not checks:
            what = f"failed {failed[0]}" if failed else "ran no check"
            raise RunFailed(f"stage {stage.stage}: its pre-flight {what}")


def preflight_lines(full: recipes.Plan, folder: Path) -> list[str]:
    """Results of each stage's pre-flight checks, in Markdown."""
    lines = ["", "Pre-flight:", ""]
    for stage in full.stages:
        checks = read_json(folder / stage.stage / "metrics.json").get("preflight") or {}
        passed = [name for name, ok in checks.items() if ok]
        if checks:
            lines.append(f"- {stage.stage}: passed {', '.join(passed)}")
        own = stage.parameters.get("ALLOW_FAILED") or {}
        for name in (name for name, ok in checks.items() if not ok):
            who = "the recipe" if name in own else "the verification"
            why = own.get(name) or OF_RANDOM_WEIGHTS[name]
            lines.append(f"  - failed {name}, which {who} allows: {why}")
    return lines


def as_markdown(full: recipes.Plan, changed: Sequence[str], folder: Path) -> str:
    """The content of ``verified.md``: what was verified, what was replaced, what is unknown."""
    lines = [
        f"# {full.recipe} ({full.scale}): what was verified",
        "",
        "The full run was **not** made: it needs the Hub and a GPU. Every stage was run "
        "once, for one step, by the same runner and notebooks with the settings of the "
        "recipe, on a tiny random model and a few rows in the real data sets' schema.",
        "",
        "| stage | settings that were built, as the recipe has them | steps run |",
        "| --- | --- | --- |",
    ]
    replaced = {text.partition("=")[0] for text in changed}
    for stage in full.stages:
        metrics = read_json(folder / stage.stage / "metrics.json")
        kept = ", ".join(
            f"{name} {value}"
            for name, value in stage.parameters.items()
            if isinstance(value, int | float | str)
            and name not in parameters.WIRING
            and not name.endswith("_FROM")
            and f"{stage.stage}.{name}" not in replaced
            and value not in ("", -1, False)
        )
        lines.append(f"| {stage.stage} | {kept} | {metrics.get('steps', 0)} |")
    lines += preflight_lines(full, folder)
    lines += ["", "Replaced for the verification:", ""]
    shown_texts = [text.replace(str(PROJECT_ROOT) + "/", "") for text in changed]
    lines += [f"- `{text}`" for text in shown_texts]
    lines += ["", "Not known from this: accuracy, time, memory, Hub access.", ""]
    return "\n".join(lines)
