"""Figures of arms: paired differences to the arm that each is compared with, and training logs.

Each arm is asked the same questions as its reference, from the same seeds. The intervals of two
accuracies carry what both share, so that they may overlap where the difference is clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils import slide, titles
from trlm_utils.plots import of_form, smoothed
from trlm_utils.slide import COLOURS, MARKERS, STYLE

BAND_COLOURS = {"in_distribution": COLOURS[6], "longer": COLOURS[2], "longest": COLOURS[3]}
ROWS = 11  # lines of arms, headings included, that fit on a slide


def ablation_pages(table: Any, rows: int = ROWS) -> list[list[str]]:
    """The groups of a table of arms, divided so that each part fits on a slide.

    A group takes a line for its name and one for each arm that is no reference.
    """
    pages: list[list[str]] = [[]]
    used = 0
    for group, part in table.groupby("group", sort=False):
        lines = 1 + part.loc[~part["reference"].astype(bool), "arm"].nunique()
        if pages[-1] and used + lines > rows:
            pages.append([])
            used = 0
        pages[-1].append(group)
        used += lines
    return pages


def plot_ablations(
    table: Any,
    decoding: str = "sampled",
    groups: Sequence[str] = (),
    bands: Sequence[str] = tuple(BAND_COLOURS),
) -> Any:
    """Paired differences of arms to the reference of their group, in points, with intervals.

    Args:
        table: rows with group, arm, reference (whether it is the arm that the others are
            compared with), band, decoding, n, seeds, difference, difference_low,
            difference_high (`evaluation.arms`).
        decoding: the one to draw.
        groups: those to draw; empty means all (`ablation_pages` divides them).
        bands: those to draw, where the table has them; else its first three.
    """
    import matplotlib.pyplot as plt

    table = of_form(table[table["decoding"] == decoding])
    table = table[table["group"].isin(groups)] if groups else table
    there = list(dict.fromkeys(table["band"]))
    drawn = [band for band in bands if band in there] or there[:3]
    others = table[~table["reference"].astype(bool)]
    others = others[others["difference"].notna()] if "difference" in others else others.iloc[:0]
    with plt.rc_context(STYLE):
        figure, (axis,) = slide.make_panels(1)
        lines = _arm_lines(table)
        for k, band in enumerate(drawn):
            rows = others[others["band"] == band]
            y = [lines.index((row.group, row.arm)) for row in rows.itertuples()]
            y = [place + 0.24 * (k - (len(drawn) - 1) / 2) for place in y]
            value = 100 * rows["difference"]
            error = [value - 100 * rows["difference_low"], 100 * rows["difference_high"] - value]
            style = {"color": BAND_COLOURS.get(band, COLOURS[k]), "marker": MARKERS[k], "ls": ""}
            axis.errorbar(value, y, xerr=error, capsize=4, label=band.replace("_", " "), **style)
        axis.axvline(0, color="black", lw=1.5)
        named = {y: arm for y, (_, arm) in enumerate(lines) if arm}
        axis.set_yticks(list(named), list(named.values()))
        _headings(axis, table, lines)
        axis.set_ylim(len(lines) - 0.5, -0.6)
        axis.set_xlabel(f"points more than the reference, {decoding}, 95 % interval")
        slide.put_legend(figure, [axis] if len(drawn) > 1 else [])
        _ablations_title(figure, others[others["band"] == drawn[0]] if drawn else others, decoding)
    plt.close(figure)
    return figure


def _arm_lines(table: Any) -> list[tuple[str, str]]:
    """Lines from top to bottom: (group, "") for a heading, (group, arm) for each other arm."""
    lines = []
    for group, rows in table.groupby("group", sort=False):
        arms = dict.fromkeys(rows.loc[~rows["reference"].astype(bool), "arm"])
        lines += [(group, ""), *((group, arm) for arm in arms)]
    return lines


def _headings(axis: Any, table: Any, lines: Sequence[tuple[str, str]]) -> None:
    """The name of each group and its reference, left above its arms."""
    from matplotlib.transforms import blended_transform_factory

    place = blended_transform_factory(axis.transAxes, axis.transData)
    for y, (group, arm) in enumerate(lines):
        if not arm:
            own = table[(table["group"] == group) & table["reference"].astype(bool)]
            text = f"{group}, against {own['arm'].iloc[0]}" if len(own) else group
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            axis.text(0.01, y, text, transform=place, va="center", weight="bold", bbox=box)
            axis.axhspan(y - 0.45, y + 0.45, color="#EEEEEE", lw=0, zorder=0)


def _ablations_title(figure: Any, rows: Any, decoding: str) -> None:
    if rows.empty:
        slide.put_title(figure, "No arm beside the reference")
        return
    asked = rows["n"].min() if "n" in rows else 0
    seeds = int(rows["seeds"].min()) if "seeds" in rows else 0
    band = rows["band"].iloc[0].replace("_", " ")
    about = titles.about(asked, seeds, more=f"paired differences; title: {band}, {decoding}")
    slide.put_title(figure, titles.verdicts(rows), about)


def plot_trainings(curves: Any, panels: dict[str, str], asked: str = "") -> Any:
    """Training logs of several runs side by side: a mean over seeds each, the seeds faint.

    Args:
        curves: rows with run (its label), seed, step, and the columns of the panels
            (`evaluation.arms.curves`, with a label). A run without values of a column is left
            out of its panel.
        panels: panel title -> column.
        asked: what one step's values are means of, as ``128 completions a step``.
    """
    import matplotlib.pyplot as plt

    runs = list(dict.fromkeys(curves["run"]))
    with plt.rc_context(STYLE):
        figure, axes = slide.make_panels(len(panels), sharex=True)
        for axis, (title, column) in zip(axes, panels.items(), strict=True):
            for number, run in enumerate(runs):
                rows = curves[(curves["run"] == run) & curves[column].notna()]
                if rows.empty:
                    continue
                colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
                for _, own in rows.groupby("seed"):
                    axis.plot(own["step"], own[column], color=colour, lw=1.0, alpha=0.25)
                mean = smoothed(rows.groupby("step")[column].mean())
                style = {"color": colour, "marker": marker, "markevery": max(1, len(mean) // 6)}
                axis.plot(mean.index, mean, label=run, **style)
            axis.set_title(title)
        slide.label_lowest(axes, "step")
        seeds = curves["seed"].nunique()
        about = f"{asked + ', ' if asked else ''}{seeds} seeds; thick: mean, smoothed over 5 steps"
        slide.put_title(figure, trainings_message(curves, *list(panels.items())[0]), about)
        slide.put_legend(figure, axes)
    plt.close(figure)
    return figure


def trainings_message(curves: Any, title: str, column: str) -> str:
    """Where each run ends in one panel: the mean over the last five steps and the seeds."""
    ends = []
    for run, rows in curves[curves[column].notna()].groupby("run", sort=False):
        last = sorted(set(rows["step"]))[-5:]
        ends.append(f"{run}: {rows[rows['step'].isin(last)][column].mean():.2f}")
    return f"{title[0].upper()}{title[1:]} at the end: {'; '.join(ends)}"
