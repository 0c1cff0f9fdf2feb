"""How far each stage of a recipe is, read from the files that running stages write."""

from __future__ import annotations

import time
from pathlib import Path

from trlm_utils.evaluation.pooling import seed_folders
from trlm_utils.files import CourseError, read_json, shown
from trlm_utils.runner import recipe_file, recipes
from trlm_utils.runner.digest import read_manifest
from trlm_utils.runner.parameters import RecipeError
from trlm_utils.runner.pipeline import run_folder
from trlm_utils.runner.progress import duration, line, read

SILENT = 300.0  # seconds without a sign after which a running stage may have been interrupted


def text(recipe: str, scale: str = "nano") -> str:
    """A line for each stage of each seed: finished, running, interrupted or not begun.

    Raises:
        RecipeError: when the recipe was never run.
    """
    path = recipe_file.find_recipe(recipe)
    name = recipe_file.run_name(path)
    base = run_folder(name, scale, 0)
    lines = []
    for seed, folder in seed_folders(base).items():
        for stage in _names(path, scale, folder):
            told = of_stage(folder / stage, time.time())
            lines.append(f"{name}, seed {seed}  {stage:<18} {told}")
    if not lines:
        raise RecipeError(f"{recipe} was not run yet: there is nothing in {shown(base)}")
    return "\n".join(lines)


def _names(path: Path, scale: str, folder: Path) -> list[str]:
    """The recipe's stages; of a recipe that it continues those that were begun."""
    content = recipe_file.read(path)
    own = [entry.stage for entry in recipes.scale_of(content, scale, path).stages]
    if not content.continues:
        return own
    before = recipe_file.find_recipe(content.continues)
    first = recipes.scale_of(recipe_file.read(before), scale, before)
    earlier = [entry.stage for entry in first.stages]
    return [name for name in earlier if (folder / name).exists()] + own


def of_stage(folder: Path, now: float) -> str:
    """How far one stage is.

    Args:
        now: seconds since 1970.
    """
    manifest = read_manifest(folder)
    status = manifest.get("status")
    if status == "finished":
        try:
            headline = read_json(folder / "metrics.json").get("headline", "")
        except CourseError:
            headline = ""
        return f"finished in {duration(manifest.get('wall_seconds', 0))}  {headline}"
    if not status:
        return "not begun"
    found = read(folder)
    sign = max((folder / "manifest.json").stat().st_mtime, found["written"] if found else 0)
    told = line(found, now) if found else "no step yet"
    if now - sign > SILENT:
        return f"no sign for {duration(now - sign)} (interrupted?): {told.partition(',')[0]}"
    return told
