"""Write into each notebook what it takes: recorded time and memory, and what is known of GPUs.

    python -m tools.costs [NOTEBOOK ...]   # all that were recorded, or those named

The line stands in the notebook's first text, after what it needs. Time and memory are those of
`trlm_utils/runner/recorded.yaml` (`python -m trlm_utils record nano`); those of a real model on
a GPU are estimates (`trlm_utils/runner/estimate.py`), until somebody has measured them.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from typing import Any

from tools.publish import NOTEBOOKS
from trlm_utils.files import CourseError
from trlm_utils.runner import estimate, recipes, times
from trlm_utils.runner.progress import duration

START = "**Time and memory.**"
CARDS = ("T4", "A100")  # a small card and a large one
SYSTEMS = ("trlm", "qwen-rl")  # recipes whose full scale is estimated, in this order
READING = ("09_real_model", "10_ablations")  # notebooks without a model
ON_CPU = ("08_use_it",)  # whose models are not placed on a card
TINY = ("algorithms", "nano", "deep_dives")  # recipes of the course's own model


def line(notebook: str) -> str:
    """The sentences on a notebook's time and memory.

    Args:
        notebook: name of a notebook, as ``02_sft_stage1``.

    Raises:
        CourseError: when no recipe with this stage was recorded.
    """
    entries = {name: entry["stages"] for name, entry in times.load().items() if name != "smoke"}
    name = next((name for name, stages in entries.items() if notebook in stages), "")
    if not name:
        raise CourseError(
            f"no time recorded for {notebook}: run a recipe with it, then "
            "`python -m trlm_utils record RECIPE`"
        )
    stage = entries[name][notebook]
    memory = f", {stage['memory_mb'] / 1000:.1f} GB" if "memory_mb" in stage else ""
    cores = f"Two shared CPU cores: {duration(stage['seconds'])}{memory} (recorded with `{name}`)."
    gpu = "GPU: not measured; `make gpu` measures a card."
    if notebook in ON_CPU:
        gpu = "A GPU is not used."
    if notebook in READING:
        gpu = "A GPU changes nothing: no model runs here."
    parts = (START, cores, gpu, estimated_tiny(notebook), estimated(notebook))
    return " ".join(filter(None, parts))


def estimated_tiny(notebook: str) -> str:
    """The estimate for the course's own model; empty where no model runs."""
    costs = next(filter(None, (on_cards(name, "nano", notebook) for name in TINY)), [])
    if not costs:
        return ""
    if 3600 * max(cost.hours for cost in costs) < 1:
        return (
            f"Estimated for this model: less than a second of sampling on a {CARDS[0]}; the rest "
            "is the processor's work."
        )
    return (
        f"Estimated for this model: {told(costs, 1)} of training and sampling (so small a "
        "model waits for its kernels to start)."
    )


def estimated(notebook: str) -> str:
    """The estimate for the first full-scale recipe that trains or samples in a notebook."""
    for system in SYSTEMS:
        costs = on_cards(system, "full", notebook)
        if costs and min(cost.hours for cost in costs) >= 0.05:
            parts = told(costs, 0)
            command = f"python -m trlm_utils show {system} --scale full --gpu {CARDS[0]}"
            return (
                f"Estimated for the real model of `{system}`: {parts} "
                f"(`{command}` lists the assumptions)."
            )
    return ""


def on_cards(recipe: str, scale: str, notebook: str) -> list[estimate.Cost]:
    """What a notebook costs on each of `CARDS`, in its own or else its first stage of a recipe.

    Empty if it has none there, or none that trains or samples.
    """
    plan, *costs = all_costs(recipe, scale)
    stages = [s.stage for s in plan.stages if s.notebook.stem == notebook]
    stage = notebook if notebook in stages else next(iter(stages), "")
    found = [card.get(stage) for card in costs]
    return found if all(found) else []


@functools.cache
def all_costs(recipe: str, scale: str) -> list[Any]:
    """A recipe's plan, then for each of `CARDS` the costs of its stages, by name."""
    plan = recipes.load_plan(recipe, scale)
    model = estimate.of_recipe(recipes.load_plan(TINY[0])) if scale == "nano" else None
    costs = [estimate.of_plan(plan, estimate.GPUS[card], model) for card in CARDS]
    return [plan, *({cost.stage: cost for cost in found} for found in costs)]


def told(costs: Sequence[estimate.Cost], digits: int) -> str:
    """Time and memory on each of `CARDS`, with so many digits of a GB."""
    return "; ".join(
        f"one {card} {duration(3600 * cost.hours)}, {cost.memory:.{digits}f} GB"
        for card, cost in zip(CARDS, costs, strict=True)
    )


def place_line(cells: list[Any], told: str) -> None:
    """Put the line into the first text that says what the notebook needs, or renew it there.

    Raises:
        CourseError: when no text says so.
    """
    for cell in cells:
        if cell["cell_type"] == "markdown" and "**You need**" in "".join(cell["source"]):
            text = "".join(cell["source"])
            if START in text:
                text = re.sub(rf"^{re.escape(START)}.*$", lambda _: told, text, flags=re.MULTILINE)
            else:
                text = re.sub(r"(?m)^(\*\*You need\*\*.*)$", lambda m: f"{m[1]}\n\n{told}", text)
            cell["source"] = text
            return
    raise CourseError("no text with **You need**")


def main(arguments: list[str]) -> int:
    """Write the line into notebooks; returns the exit status."""
    import nbformat

    recorded = {stage for entry in times.load().values() for stage in entry["stages"]}
    names = arguments or sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb") if p.stem in recorded)
    try:
        for name in names:
            path = NOTEBOOKS / f"{name}.ipynb"
            if not path.is_file():
                raise CourseError(f"no notebook {name}")
            notebook = nbformat.read(path, as_version=4)
            place_line(notebook.cells, line(name))
            nbformat.write(notebook, path)
            print(f"{name}: {line(name)}")
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
