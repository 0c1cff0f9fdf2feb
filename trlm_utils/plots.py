"""Figures from data frames, in one style for projectors and colour-blind readers.

Colours are those of Okabe and Ito. Every plot function takes a data frame and returns a
figure; `save_figure` writes it as .svg and .png, and its table as .csv.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import stats

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DECODING_STYLE = {
    "greedy": (COLOURS[0], "o", "-"),
    "sampled": (COLOURS[1], "s", "--"),
    "likelihood": (COLOURS[2], "^", ":"),  # multiple choice: nothing is generated
}
STYLE = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "svg.hashsalt": "trlm",  # fixed ids, so that equal figures give equal files
    "figure.constrained_layout.use": True,
}


def save_figure(figure: Any, path: Path, table: Any) -> None:
    """Write ``path``.svg, .png and .csv (the table the figure was drawn from)."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=110)
    table.to_csv(path.with_suffix(".csv"), index=False)


def svg(figure: Any) -> str:
    """A figure as an SVG element, to embed in an HTML page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def short(stage: str) -> str:
    """A stage's name without its number, for axes: ``02_sft_stage1`` -> ``sft stage1``."""
    if stage == "00_start_here":
        return "base"  # the model that this stage produces
    head, _, rest = stage.partition("_")
    return (rest if head.isdigit() and rest else stage).replace("_", " ")


def percent_of(rows: Any) -> tuple[Any, list[Any]]:
    """Accuracies (or differences) of rows in %, and the lengths of their error bars."""
    name = "accuracy" if "accuracy" in rows else "difference"
    value = 100 * rows[name]
    return value, [value - 100 * rows["low"], 100 * rows["high"] - value]


def make_panels(number: int, width: float = 3.9, **settings: Any) -> tuple[Any, list[Any]]:
    """A figure with up to three panels per row, and its panels in reading order."""
    import matplotlib.pyplot as plt

    across = min(number, 3)
    down = -(-number // across)
    size = (width * across + 0.8, 3.1 * down + 1.0)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, **settings)
    for axis in axes.flat[number:]:
        axis.axis("off")
    for axis in axes.flat[number - across : number]:  # the lowest panel of each column
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:number])


def put_legend(figure: Any, axes: Sequence[Any]) -> None:
    """One legend for all panels: in an empty cell of the grid, else above the panels."""
    found: dict[str, Any] = {}
    for axis in axes:
        found |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    handles, labels = list(found.values()), list(found)
    empty = [axis for axis in figure.axes if axis not in axes]
    if empty:
        empty[0].legend(handles, labels, frameon=False, loc="center")
    else:
        figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=len(labels))


def over_seeds(rows: Any) -> Any:
    """Mean accuracy per stage over seeds, with an interval for new seeds and questions.

    If the seeds were pooled question by question (columns ``pooled_...``), that interval is
    used. Otherwise it is computed from the means of the seeds, and is wider
    (`stats.seeds_interval`). With one seed it is that seed's own interval.

    Args:
        rows: frame with stage, seed, accuracy, low, high (one band, one decoding).

    Returns:
        A frame with stage, accuracy, low, high.
    """
    import pandas as pd

    found = []
    for stage, group in rows.groupby("stage", sort=False):
        mean, first = group["accuracy"].mean(), group.iloc[0]
        if len(group) > 1 and pd.notna(first.get("pooled_low")):
            mean, low, high = (first[f"pooled_{n}"] for n in ("accuracy", "low", "high"))
        else:
            low, high = _from_means(group, mean)
        found.append({"stage": stage, "accuracy": mean, "low": low, "high": high})
    return pd.DataFrame(found)


def _from_means(group: Any, mean: float) -> tuple[float, float]:
    """An interval from each seed's mean and interval, computed separately for each side."""
    if len(group) < 2:
        return group["low"].iloc[0], group["high"].iloc[0]
    asked = group["n"].min() if "n" in group else math.inf
    ends = []
    for side in (mean - group["low"].mean(), group["high"].mean() - mean):
        error, quantile = stats.seeds_interval(list(group["accuracy"]), side / stats.Z, asked)
        ends.append(quantile * error)
    return max(0.0, mean - ends[0]), min(1.0, mean + ends[1])


def plot_curves(log: Any, panels: dict[str, Sequence[str]], title: str = "") -> Any:
    """Training curves: one panel per entry, each with the named log columns over steps.

    Args:
        log: a trainer's log (column ``step``); columns that are absent are skipped.
        panels: panel title -> columns of the log to draw in it.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        across = 3 if len(panels) in (5, 6) else min(len(panels), 4)
        down = -(-len(panels) // across)
        size = (4.2 * across, 3.8 * down)
        figure, axes = plt.subplots(down, across, figsize=size, squeeze=False)
        for axis, (name, columns) in zip(axes.flat, panels.items(), strict=False):
            for colour, column in zip(COLOURS, columns, strict=False):
                if column in log:
                    part = log[["step", column]].dropna()
                    marker = "o" if len(part) < 30 else None
                    label = column.removeprefix("rewards/").removesuffix("/mean").replace("_", " ")
                    axis.plot(part["step"], part[column], color=colour, marker=marker, label=label)
            axis.set_title(name)
            axis.set_xlabel("step")
            if len(columns) > 1:
                axis.legend(framealpha=0.85, edgecolor="none", fontsize=10)
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        if title:
            figure.suptitle(title)
    plt.close(figure)
    return figure


def plot_lines(table: Any, x: str, columns: Sequence[str], label: str) -> Any:
    """Functions of one variable: left their values, right their slopes (finite differences).

    Args:
        table: rows with ``x`` and the columns.
        x: column of the horizontal axis, evenly spaced.
        columns: one line each.
        label: of the horizontal axis.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    with plt.rc_context(STYLE):
        figure, axes = make_panels(2, width=4.6)
        for colour, column in zip(COLOURS, columns, strict=False):
            axes[0].plot(table[x], table[column], color=colour, label=column)
            axes[1].plot(table[x], np.gradient(table[column], table[x]), color=colour)
        for axis, title in zip(axes, ("loss", "gradient"), strict=True):
            axis.set_title(title)
            axis.set_xlabel(label)
        put_legend(figure, axes)
    plt.close(figure)
    return figure


def of_form(table: Any, form: str = "chat") -> Any:
    """Rows of a form; tables recorded without the column hold form "chat" alone."""
    if "form" not in table:
        return table if form == "chat" else table.iloc[:0]
    return table[table["form"] == form]


def plot_ablations(table: Any, decoding: str = "sampled") -> Any:
    """One panel per group of arms; accuracy of each arm with its 95 % interval, by band.

    Args:
        table: rows with group, arm, reference (whether it is the arm that the others are
            compared with), band, decoding, accuracy, low, high.
    """
    import matplotlib.pyplot as plt

    table = of_form(table[table["decoding"] == decoding])
    groups = list(dict.fromkeys(table["group"]))
    bands = list(dict.fromkeys(table["band"]))
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(groups), width=4.8 if len(groups) > 1 else 9.0, sharex=True)
        for axis, group in zip(axes, groups, strict=True):
            rows = table[table["group"] == group]
            arms = list(dict.fromkeys(rows["arm"]))
            for k, band in enumerate(bands):
                part = rows[rows["band"] == band]
                y = [arms.index(arm) + 0.22 * (k - (len(bands) - 1) / 2) for arm in part["arm"]]
                x, error = percent_of(part)
                style = {"color": COLOURS[k], "marker": MARKERS[k], "ls": "", "capsize": 3}
                axis.errorbar(x, y, xerr=error, label=band.replace("_", " "), **style)
                for value in x[part["reference"]]:
                    axis.axvline(value, color=COLOURS[k], lw=1, ls=":")
            axis.set_yticks(range(len(arms)), arms)
            axis.set_ylim(len(arms) - 0.5, -0.5)
            axis.set_xlim(-2, 102)
            axis.set_title(group)
        figure.supxlabel(f"accuracy (%), {decoding}, 95 % interval; dotted: the reference")
        put_legend(figure, axes)
    plt.close(figure)
    return figure


def plot_differences(table: Any) -> Any:
    """Differences of arms to their reference, with 95 % intervals; one panel per group.

    Args:
        table: rows with group, arm, decoding, difference, low, high (in percentage points).
    """
    import matplotlib.pyplot as plt

    sizes = table.groupby("group", sort=False)["arm"].nunique()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(sizes),
            figsize=(9, 0.62 * sizes.sum() + 2.2),
            sharex=True,
            squeeze=False,
            height_ratios=list(sizes),
        )
        for axis, group in zip(axes[:, 0], sizes.index, strict=True):
            rows = table[table["group"] == group]
            arms = list(dict.fromkeys(rows["arm"]))
            for decoding, part in rows.groupby("decoding", sort=False):
                colour, marker, _ = DECODING_STYLE[decoding]
                y = [arms.index(arm) + 0.2 * (decoding == "sampled") for arm in part["arm"]]
                error = [part["difference"] - part["low"], part["high"] - part["difference"]]
                style = {"color": colour, "marker": marker, "ls": "", "capsize": 3}
                axis.errorbar(part["difference"], y, xerr=error, label=decoding, **style)
            axis.axvline(0, color="black", lw=1)
            axis.set_yticks(range(len(arms)), [arm.replace("_", " ") for arm in arms])
            axis.set_ylim(len(arms) - 0.5, -0.5)
            axis.set_title(group)
        figure.supxlabel("difference to the reference (points), 95 % interval")
        put_legend(figure, list(axes[:, 0]))
    plt.close(figure)
    return figure


def plot_shares(table: Any, label: str, parts: Sequence[str], axis_label: str) -> Any:
    """One stacked horizontal bar per row of the table, with one segment per column of ``parts``.

    Args:
        table: shares in [0, 1].
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 0.55 * len(table) + 1.9))
        left = [0.0] * len(table)
        for colour, part in zip(COLOURS, parts, strict=False):
            widths = [100 * share for share in table[part]]
            axis.barh(range(len(table)), widths, left=left, color=colour, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axis.set_yticks(range(len(table)), [short(name) for name in table[label]])
        axis.invert_yaxis()
        axis.set_xlabel(axis_label)
        axis.legend(
            frameon=False, fontsize=10, ncols=len(parts), loc="lower left", bbox_to_anchor=(0, 1)
        )
    plt.close(figure)
    return figure


def plot_lengths(lengths: dict[str, Sequence[int]]) -> Any:
    """Distribution of token lengths, one box per data set."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 0.5 * len(lengths) + 1.6))
        axis.boxplot(
            list(lengths.values()),
            orientation="horizontal",
            tick_labels=list(lengths),
            showfliers=False,
            medianprops={"color": COLOURS[1], "lw": 2},
        )
        axis.invert_yaxis()
        axis.set_xlabel("tokens")
    plt.close(figure)
    return figure
