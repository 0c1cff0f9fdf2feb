"""Verify a full-scale recipe on a machine without Hub, GPU or hours.

Every stage is run by the same runner and notebooks, with the recipe's own settings,
except that two layers of the real architecture, with random weights and the chat template
of its family, stand in for the real model, a folder of rows in the real data sets' schema
stands in for the Hub, and each stage trains one step. So what is verified is that every
configuration builds and every stage accepts the data's form. What is not verified is any
result, speed or memory of the full run.

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
from trlm_utils.runner import pipeline, recipes

MIRROR = PROJECT_ROOT / "tests" / "fixtures" / "hub"
FILES = PROJECT_ROOT / "tests" / "fixtures" / "files"  # GSM8K and MATH as folders

# Parameter -> value that makes a stage small. Everything else stays the recipe's own.
STAND_INS: dict[str, Any] = {
    "BASE_MODEL": "",  # two layers with random weights, of the real architecture
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
    "SAMPLES": 1,
    "EVAL_BATCH": 4,
    "MAX_NEW_TOKENS": 8,
    "LOOK_EVERY": 1,
    "PROMPTS_PER_STEP": 2,
    "GROUP_SIZE": 2,
    "MICRO_BATCH": 4,
    "PROBE_PROMPTS": 2,
    "IGNORE_PREFLIGHT": True,
}


def substitutions(plan: recipes.Plan) -> list[str]:
    """``--set`` texts that replace what is too large or out of reach."""
    texts = []
    for stage in plan.stages:
        for name, value in STAND_INS.items():
            if name in stage.parameters and stage.parameters[name] != value:
                texts.append(f"{stage.stage}.{name}={json.dumps(value)}")
        if "EVALUATE" in stage.parameters:
            texts.append(f"{stage.stage}.EVALUATE={json.dumps(_few(stage.parameters['EVALUATE']))}")
    return texts


def _few(models: Sequence[str]) -> list[str]:
    """The first and last model, and a checkpoint; of one step one is kept."""
    steps = [re.sub(r"/step_\d+$", "/step_1", name) for name in models if "/step_" in name]
    return list(dict.fromkeys([models[0], *steps[:1], models[-1]]))


def run(recipe: str, scale: str, overrides: Sequence[str] = ()) -> int:
    """Run the verification and write ``verified.md``; returns the exit status.

    Raises:
        RecipeError: when the recipe itself is wrong.
        RunFailed: when a stage does not build or does not take its one step.
    """
    name = recipes.find_recipe(recipe).stem
    folder = pipeline.run_folder(name, f"{scale}-verified", 0)
    files = []  # a recipe that asks for a folder is refused without one
    if "{DATA_DIR}" in recipes.find_recipe(recipe).read_text(encoding="utf-8"):
        files = [f"01_data_curation.DATA_DIR={json.dumps(str(FILES))}"]
    full = recipes.load_plan(recipe, scale, 0, [*overrides, *files], str(folder))
    changed = [*files, *substitutions(full)]
    small = recipes.load_plan(recipe, scale, 0, [*overrides, *changed], str(folder))
    offline = dataclasses.replace(small, needs_hub=False, groups={})  # no result to compare
    with pipeline.locked(folder):
        pipeline.run_plan(offline, folder)
    write_text(folder / "verified.md", as_markdown(full, changed, folder))
    print(f"report: {shown(folder / 'verified.md')}")
    return 0


def as_markdown(full: recipes.Plan, changed: Sequence[str], folder: Path) -> str:
    """What was verified, what stood in for what, and what remains unknown."""
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
            and name not in recipes.WIRING
            and not name.endswith("_FROM")
            and f"{stage.stage}.{name}" not in replaced
            and value not in ("", -1, False)
        )
        lines.append(f"| {stage.stage} | {kept} | {metrics.get('steps', 0)} |")
    lines += ["", "Replaced for the verification:", ""]
    shown_texts = [text.replace(str(PROJECT_ROOT) + "/", "") for text in changed]
    lines += [f"- `{text}`" for text in shown_texts]
    lines += ["", "Not known from this: accuracy, time, memory, Hub access.", ""]
    return "\n".join(lines)
