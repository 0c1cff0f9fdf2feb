"""Compare recipes on one page: ladders, minutes, tokens, parameters, cost per point gained.

It reads the ``report.json`` of each run; nothing is trained. It writes
``runs/compare/compare.html``, ``.json`` and ``.csv``, and the figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import plots
from trlm_utils.evaluation import rise_plots
from trlm_utils.evaluation.ladder import key_of
from trlm_utils.files import CourseError, read_json, runs_root, shown, write_json, write_text
from trlm_utils.runner import pages, report_texts

RECIPES = ("nano", "trlm", "qwen-rl", "tina", "tiny-r1", "tunix")
BAND = "in_distribution"
NEEDED = ("about", "arms", "deviations", "ladder", "result", "seeds", "stages", "totals")


def reports(names: Sequence[str] = RECIPES) -> dict[str, dict[str, Any]]:
    """Recipe -> content of its report, for all recipes that were run.

    Raises:
        CourseError: when no recipe was run.
    """
    places = {name: runs_root() / name / "report.json" for name in names}
    found = {name: read_json(place) for name, place in places.items() if place.is_file()}
    for name, content in found.items():
        if lacking := [key for key in NEEDED if key not in content]:
            raise CourseError(
                f"{shown(places[name])} has no {lacking[0]!r}; write it again: "
                f"python -m trlm_utils report {name}"
            )
    found = {name: content for name, content in found.items() if content["ladder"]}
    if not found:
        raise CourseError(
            f"no recipe in {shown(runs_root())} was run to its report: `make course RECIPE=...`"
        )
    return found


def summary(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """One row of the comparison.

    Accuracies are shares on `BAND`, as means over the seeds. ``gained`` is the gain in sampled
    accuracy, in percentage points, from the first evaluated stage to the recipe's result.
    Trainable parameters are those of the stage that made the result; minutes and tokens are
    sums over all stages.
    """
    row: dict[str, Any] = {"recipe": name, "seeds": len(content["seeds"])}
    first, last = content["ladder"][0]["stage"], content["result"]
    row |= {"from": first, "result": last}
    for decoding in ("greedy", "sampled"):
        for what, stage in (("start", first), ("end", last)):
            row[f"{what}_{decoding}"] = _mean(content["ladder"], stage, decoding)
    start, end = row["start_sampled"], row["end_sampled"]
    gained = 100 * (end - start) if None not in (start, end) else None
    row |= {"gained": gained} | content["totals"]
    trained = [s["trainable_parameters"] for s in content["stages"] if s["stage"] == last]
    row["trainable_parameters"] = max(trained, default=0)
    worth = gained and gained > 0
    row["dollars_per_point"] = row["dollars"] / gained if worth else None
    row["minutes_per_point"] = row["minutes"] / gained if worth else None
    return row


def _mean(ladder: Sequence[dict[str, Any]], stage: str, decoding: str) -> float | None:
    found = [
        row["accuracy"]
        for row in ladder
        if (row["stage"], *key_of(row)) == (stage, BAND, "chat", decoding)
    ]
    return sum(found) / len(found) if found else None


def write(names: Sequence[str] = RECIPES) -> Path:
    """Write the comparison; returns its folder.

    Raises:
        CourseError: see `reports`.
    """
    import pandas as pd

    found = reports(names)
    rows = [summary(name, content) for name, content in found.items()]
    ladder = pd.concat(
        [pd.DataFrame(content["ladder"]).assign(recipe=name) for name, content in found.items()]
    )
    ladder = plots.of_form(ladder[ladder["band"] == BAND])
    ladder = ladder[~ladder["stage"].str.contains("/")]  # leave out checkpoints of an arm
    folder = runs_root() / "compare"
    figure = rise_plots.plot_recipes(
        ladder, {row["recipe"]: (row["from"], row["result"]) for row in rows}
    )
    plots.save_figure(figure, folder / "compare", ladder)
    write_text(folder / "compare.csv", pd.DataFrame(rows).to_csv(index=False))
    missing = [name for name in names if name not in found]
    write_json(folder / "compare.json", {"recipes": rows, "not_run": missing})
    write_text(folder / "compare.html", page(rows, found, missing, figure))
    return folder


COLUMNS = (
    "recipe, seeds, start, result, greedy %, sampled %, gained (points), minutes, tokens, "
    "trainable parameters, dollars, dollars per point, kJ"
).split(", ")


def cells(row: dict[str, Any]) -> list[str]:
    """A row of `summary` as text, in the order of `COLUMNS`; "-" for unknown values."""

    def known(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    ends = [row[f"end_{d}"] for d in ("greedy", "sampled")]
    return [
        row["recipe"],
        str(row["seeds"]),
        plots.short(row["from"]),
        plots.short(row["result"]),
        *(known(end and 100 * end, ".1f") for end in ends),
        known(row["gained"], "+.1f"),
        known(row["minutes"], ".1f"),
        known(row["tokens"], ",.0f"),
        known(row["trainable_parameters"], ","),
        known(row["dollars"], ".4f"),
        known(row["dollars_per_point"], ".5f"),
        known(row["joules"] and row["joules"] / 1e3, ".1f"),
    ]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown, with a line that explains it."""
    values = {"head": COLUMNS, "body": [cells(row) for row in rows], "band": BAND}
    return pages.render("compare.md.jinja", **values).rstrip()


def page(
    rows: Sequence[dict[str, Any]],
    found: dict[str, dict[str, Any]],
    missing: Sequence[str],
    figure: Any,
) -> str:
    """The comparison as one self-contained HTML page."""
    recipes = [
        (name, content["about"], report_texts.arms_tables(content), content["deviations"])
        for name, content in found.items()
    ]
    return pages.render(
        "compare.html.jinja",
        title="Recipes side by side",
        band=BAND,
        figure=pages.drawn(figure),
        head=COLUMNS,
        body=[cells(row) for row in rows],
        missing=missing,
        recipes=recipes,
    )
