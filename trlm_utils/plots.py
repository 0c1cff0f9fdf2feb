"""Figures from data frames: training curves, functions, shares, lengths.

Every plot function takes a data frame and returns a figure in the shape of a slide, with a
title computed from the data (`slide`, `titles`); `save_figure` writes it as .svg and .png, and
its table as .csv.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_utils import slide, stats, titles
from trlm_utils.slide import COLOURS, STYLE

DECODING_STYLE = {
    "greedy": (COLOURS[0], "o", "-"),
    "sampled": (COLOURS[1], "s", "--"),
    "likelihood": (COLOURS[2], "^", ":"),  # multiple choice: nothing is generated
}
STYLE_COLOURS = {  # of the teachers' styles
    "careful": COLOURS[2],
    "rambling": COLOURS[3],
    "hasty": COLOURS[1],
    "other": "#999999",
    "none": "#DDDDDD",
}
SHARES = (  # logged columns that lie between 0 and 1, and are drawn on that whole axis
    *("mean_token_accuracy", "rewards/accuracies", "rewards/accuracy/mean"),
    *("held_out_accuracy", "frac_reward_zero_std"),
)
SMOOTH = 5  # logged values in the mean that a thick curve shows


def save_figure(figure: Any, path: Path, table: Any) -> None:
    """Write ``path``.svg, .png and .csv (the table the figure was drawn from)."""
    save_picture(figure, path)
    table.to_csv(path.with_suffix(".csv"), index=False)


def save_picture(figure: Any, path: Path) -> None:
    """Write ``path``.svg and .png, of 1280 x 720 pixels."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=100)


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


def of_form(table: Any, form: str = "chat") -> Any:
    """Rows of a form; tables recorded without the column hold form "chat" alone."""
    if "form" not in table:
        return table if form == "chat" else table.iloc[:0]
    return table[table["form"] == form]


def smoothed(values: Any) -> Any:
    """Centred mean over `SMOOTH` values of a series; at its ends over those there are."""
    return values.rolling(SMOOTH, center=True, min_periods=1).mean()


def plot_curves(
    log: Any,
    panels: dict[str, Sequence[str]],
    message: str = "",
    *,
    about: str = "",
    log_scale: Sequence[str] = (),
    asked: int = 0,
) -> Any:
    """Training curves: one panel per entry, each with the named log columns over steps.

    Curves of 15 values and more are drawn faint, with `smoothed` as a thick line over them.

    Args:
        log: a trainer's log (column ``step``); columns that are absent are skipped.
        panels: panel title -> columns of the log to draw in it.
        message: the figure's title; without one it states how the panels begin and end.
        about: what else to say below the title, as the seed.
        log_scale: titles of panels with a logarithmic y axis, where a second fall would be
            too small to be seen.
        asked: prompts behind ``held_out_accuracy``; gives its change an interval.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = slide.make_panels(len(panels), sharex=True)
        for axis, (name, columns) in zip(axes, panels.items(), strict=True):
            for colour, column in zip(COLOURS, columns, strict=False):
                if column in log:
                    part = log[["step", column]].dropna()
                    _curve(axis, part["step"], part[column], colour, _plain(column))
            axis.set_title(name)
            _own_scale(axis, name in log_scale)
            if set(columns) <= set(SHARES):
                axis.set_ylim(-0.03, 1.03)
            if len(columns) > 1:
                _name_ends(axis)
        slide.label_lowest(axes, "step")
        steps = int(log["step"].max()) if len(log) else 0
        ran = [f"{steps} steps"] if steps else []
        if "num_tokens" in log and log["num_tokens"].notna().any():
            ran.append(f"{log['num_tokens'].max():,.0f} tokens")
        said = ", ".join([about] * bool(about) + ran)
        if any(
            len(log[c].dropna()) >= 3 * SMOOTH for cs in panels.values() for c in cs if c in log
        ):
            said += f"; thick: mean of {SMOOTH} logged values"
        slide.put_title(figure, message or curves_message(log, panels, log_scale, asked), said)
    plt.close(figure)
    return figure


def curves_message(
    log: Any, panels: dict[str, Sequence[str]], raw: Sequence[str] = (), asked: int = 0
) -> str:
    """How the first two curves of each of the first two panels begin and end.

    Values are `smoothed` where the curves are; not in the panels named in ``raw``.
    """
    said: list[str] = []
    for name, columns in list(panels.items())[:2]:
        for column in columns[:2]:
            values = log[column].dropna() if column in log else []
            if len(values) < 2:
                continue
            label = name if len(columns) == 1 else _plain(column)
            if len(values) >= 3 * SMOOTH and name not in raw:
                values = smoothed(values)
            first, last = values.iloc[0], values.iloc[-1]
            if column == "held_out_accuracy" and asked:
                said.append(titles.share_change(label, first, last, asked))
            else:
                said.append(f"{label} {first:.2g} to {last:.2g}")
    sentence = "; ".join(said) or "nothing was logged"
    return sentence[0].upper() + sentence[1:]


def _plain(column: str) -> str:
    return column.removeprefix("rewards/").removesuffix("/mean").replace("_", " ")


def _curve(axis: Any, steps: Any, values: Any, colour: str, label: str) -> None:
    many = len(values) >= 3 * SMOOTH
    style = {"color": colour, "marker": None if len(values) > 30 else "o"}
    if many:
        axis.plot(steps, values, color=colour, lw=1.2, alpha=0.35)
        style["marker"] = None
    axis.plot(steps, smoothed(values) if many else values, label=label, **style)


def _own_scale(axis: Any, logarithmic: bool) -> None:
    """A log scale with plain numbers, where asked for and possible."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = [y for line in axis.get_lines() for y in line.get_ydata()]
    if not logarithmic or not values or min(values) <= 0:
        return
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _name_ends(axis: Any) -> None:
    """Each curve's name on the right of its end, moved apart where ends are close."""
    lines = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    if not lines:
        return
    low, high = axis.get_ylim()
    gap, top = 0.075 * (high - low), math.inf
    for line in sorted(lines, key=lambda one: -one.get_ydata()[-1]):
        top = min(line.get_ydata()[-1], top - gap)
        place = {"xy": (1.01, top), "xycoords": ("axes fraction", "data"), "va": "center"}
        axis.annotate(line.get_label(), color=line.get_color(), annotation_clip=False, **place)


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

    steepest = []
    with plt.rc_context(STYLE):
        figure, axes = slide.make_panels(2)
        for colour, column in zip(COLOURS, columns, strict=False):
            slope = np.gradient(table[column], table[x])
            axes[0].plot(table[x], table[column], color=colour, label=column)
            axes[1].plot(table[x], slope, color=colour)
            ends = f"{abs(slope).max():.2g}, {abs(slope[0]):.2g} at {table[x].iloc[0]:g}"
            steepest.append(f"{column} {ends}")
        for axis, title in zip(axes, ("loss", "gradient"), strict=True):
            axis.set_title(title)
            axis.set_xlabel(label)
        slide.put_legend(figure, axes)
        message = f"Largest slope, and slope of a hopeless pair: {'; '.join(steepest)}"
        slide.put_title(figure, message, f"computed, not sampled: {len(table)} points a line")
    plt.close(figure)
    return figure


def plot_differences(table: Any) -> Any:
    """Differences of arms to their reference, with 95 % intervals; one panel per group.

    Args:
        table: rows with group, arm, decoding, seeds, difference, low, high (in percentage
            points).
    """
    import matplotlib.pyplot as plt

    sizes = table.groupby("group", sort=False)["arm"].nunique()
    with plt.rc_context(slide.STYLE):
        figure, axes = slide.make_panels(
            len(sizes), 1, sharex=True, height_ratios=[size + 1 for size in sizes]
        )
        for axis, group in zip(axes, sizes.index, strict=True):
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
        axes[-1].set_xlabel("difference to the reference (points), 95 % interval")
        slide.put_legend(figure, axes)
        first = table[(table["group"] == sizes.index[0]) & (table["decoding"] == "sampled")]
        ends = {"difference": "difference", "low": "difference_low", "high": "difference_high"}
        shares = first.rename(columns=ends).assign(
            **{new: first[old] / 100 for old, new in ends.items()}
        )
        message = f"{sizes.index[0].capitalize()}, sampled: {titles.verdicts(shares)}"
        slide.put_title(figure, message, titles.about(0, int(table["seeds"].min())))
    plt.close(figure)
    return figure


def plot_shares(
    table: Any,
    label: str,
    parts: Sequence[str],
    axis_label: str,
    follow: str = "hasty",
    about: str = "",
) -> Any:
    """One stacked horizontal bar per row of the table, with one segment per column of ``parts``.

    Args:
        table: shares in [0, 1].
        follow: the part that the title follows from its largest share to the last row.
        about: what the shares stand on, below the title.
    """
    import matplotlib.pyplot as plt

    names = [short(name) for name in table[label]]
    with plt.rc_context(STYLE):
        figure, (axis,) = slide.make_panels(1)
        left = [0.0] * len(table)
        for colour, part in zip(COLOURS, parts, strict=False):
            widths = [100 * share for share in table[part]]
            colour = STYLE_COLOURS.get(part, colour)
            axis.barh(range(len(table)), widths, 0.7, left=left, color=colour, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axis.set_yticks(range(len(table)), names)
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel(axis_label)
        slide.put_legend(figure, [axis])
        part = follow if follow in table else parts[0]
        most, last = int(table[part].to_numpy().argmax()), len(table) - 1
        shares = [f"{100 * table[part].iloc[i]:.1f} % after {names[i]}" for i in (most, last)]
        message = f"Share of {part!r} replies: {', '.join(dict.fromkeys(shares))}"
        slide.put_title(figure, message, about)
    plt.close(figure)
    return figure


def plot_lengths(lengths: dict[str, Sequence[int]]) -> Any:
    """Distribution of token lengths, one box per data set."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, (axis,) = slide.make_panels(1)
        axis.boxplot(
            list(lengths.values()),
            orientation="horizontal",
            tick_labels=list(lengths),
            showfliers=False,
            medianprops={"color": COLOURS[1], "lw": 3},
            boxprops={"lw": 1.5},
        )
        axis.invert_yaxis()
        axis.set_xlabel("tokens")
        longest = {name: max(found) for name, found in lengths.items()}
        name = max(longest, key=lambda one: longest[one])
        rows = sum(map(len, lengths.values()))
        slide.put_title(
            figure,
            f"No row is longer than {longest[name]} tokens (in {name})",
            f"n {rows:,} rows; box: middle half, line: median, whiskers: 1.5 boxes at most",
        )
    plt.close(figure)
    return figure
