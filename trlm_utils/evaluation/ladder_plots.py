"""Figures of an evaluation: the ladder, its rises, accuracy by number of steps, pass@k.

Blue is greedy, orange is sampled. A filled mark is form "chat", a hollow one form "plain"
(`evaluation.ladder`). A dotted line is the base model in its best form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils.plots import (
    COLOURS,
    DECODING_STYLE,
    MARKERS,
    STYLE,
    make_panels,
    of_form,
    over_seeds,
    percent_of,
    put_legend,
    short,
)


def plot_ladder(ladder: Any, by: str = "band", joined: bool = True) -> Any:
    """Accuracy with 95 % intervals by stage, one panel per band or recipe.

    The first stage is the base model; a dotted line carries its best form through the panel.
    Stages that are no rung of the ladder (column ``rung``) stand on the right of a line.

    Args:
        ladder: rows with stage, seed, band, decoding, accuracy, low, high, n, form and rung
            (without these two columns: "chat", and every stage a rung). With several seeds
            their mean is drawn (`plots.over_seeds`), and each seed as a dot.
        by: column with one panel per value: "band", or "recipe" for rows of one band.
        joined: draw lines from stage to stage; not for arms, which have no order.
    """
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys(ladder[by]))
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(panels), sharey=True)
        for axis, panel in zip(axes, panels, strict=True):
            rows = ladder[ladder[by] == panel]
            # all bands have the same stages on the x axis, each recipe has its own
            stages = list(dict.fromkeys((rows if by == "recipe" else ladder)["stage"]))
            _ladder_panel(axis, rows, stages, joined)
            axis.set_title(panel.replace("_", " "))
        figure.supylabel("accuracy (%), 95 % interval")
        axes[0].set_ylim(-2, 102)
        put_legend(figure, axes)
    plt.close(figure)
    return figure


def _ladder_panel(axis: Any, rows: Any, stages: Sequence[str], joined: bool) -> None:
    outside = []
    if "rung" in rows:
        outside = list(dict.fromkeys(rows[rows["rung"].eq(False)]["stage"]))
    rungs = [stage for stage in stages if stage not in outside]
    place = {stage: k + 0.4 * (stage in outside) for k, stage in enumerate([*rungs, *outside])}
    for decoding, (colour, marker, line) in DECODING_STYLE.items():
        shift = 0.1 * (decoding == "sampled")
        own = rows[rows["decoding"] == decoding]
        for form in ("plain", "chat"):
            part = of_form(own, form)
            if part.empty:
                continue
            style = {"color": colour, "marker": marker, "capsize": 3, "label": decoding}
            if form == "plain":
                style |= {"mfc": "white", "alpha": 0.55, "lw": 1.2}
                style["label"] += ", plain form"
            elif part["seed"].nunique() > 1:  # each seed as a small dot beside its mean
                x = [place[stage] + shift - 0.16 for stage in part["stage"]]
                axis.plot(x, 100 * part["accuracy"], ".", color=colour, ms=4, alpha=0.7)
            mean = over_seeds(part).set_index("stage")
            for names in (rungs, outside):
                some = mean.reindex(names).dropna()
                if len(some):
                    y, error = percent_of(some)
                    x = [place[stage] + shift for stage in some.index]
                    axis.errorbar(x, y, error, ls=line if joined else "", **style)
        first = own[own["stage"] == stages[0]]
        if joined and "form" in own and first["form"].nunique() > 1:
            best = first.groupby("form")["accuracy"].mean().max()
            axis.axhline(100 * best, color=colour, lw=1, ls=":", label="base in its best form")
    if outside:
        axis.axvline(len(rungs) - 0.3, color="black", lw=0.8)
    names = [short(stage) for stage in place]
    axis.set_xticks(list(place.values()), names, rotation=40, ha="right")


def plot_rises(comparisons: Any) -> Any:
    """Change in accuracy from each stage to the next, one panel per band, 95 % intervals.

    Args:
        comparisons: rows with to, band, decoding, difference, low, high.
    """
    import matplotlib.pyplot as plt

    comparisons = of_form(comparisons)
    bands = list(dict.fromkeys(comparisons["band"]))
    stages = list(dict.fromkeys(comparisons["to"]))
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(bands), sharey=True)
        for axis, band in zip(axes, bands, strict=True):
            for decoding, (colour, marker, _) in DECODING_STYLE.items():
                part = comparisons[
                    (comparisons["band"] == band) & (comparisons["decoding"] == decoding)
                ]
                if part.empty:
                    continue
                x = [stages.index(stage) + 0.16 * (decoding == "sampled") for stage in part["to"]]
                y, error = percent_of(part)
                style = {"color": colour, "marker": marker, "ls": "", "capsize": 3}
                axis.errorbar(x, y, error, label=decoding, **style)
            axis.axhline(0, color="black", lw=1)
            axis.set_title(band.replace("_", " "))
            axis.set_xticks(range(len(stages)), map(short, stages), rotation=40, ha="right")
        figure.supylabel("change from the stage before\n(points), 95 % interval")
        put_legend(figure, axes)
    plt.close(figure)
    return figure


def _panels_by_band(bands: Sequence[str], height: float) -> tuple[Any, list[Any]]:
    """A row of panels titled by band: per cent on a shared y axis, powers of two along x."""
    import matplotlib.pyplot as plt

    size = (4.8 * len(bands) + 0.6, height)
    figure, axes = plt.subplots(1, len(bands), figsize=size, sharey=True, squeeze=False)
    for axis, band in zip(axes[0], bands, strict=True):
        axis.set_xscale("log", base=2)
        axis.set_title(band.replace("_", " "))
    axes[0, 0].set_ylim(-2, 102)
    return figure, list(axes[0])


def _mean_over(rows: Any, x: str) -> Any:
    """`plots.over_seeds` for the rows of one stage, point by point of column ``x``."""
    mean = over_seeds(rows.drop(columns="stage").rename(columns={x: "stage"}))
    return mean.rename(columns={"stage": x})


def plot_pass_at_k(curves: Any, counted: str = "right") -> Any:
    """pass@k over k, one panel per band, one line per stage, 95 % intervals shaded.

    Args:
        curves: rows with stage, band, k, pass_at_k, low, high, and seed where there
            are several (`over_seeds`).
    """
    import matplotlib.pyplot as plt

    if "counted" in curves:
        curves = curves[curves["counted"] == counted]
    bands = list(dict.fromkeys(curves["band"]))
    with plt.rc_context(STYLE):
        figure, axes = _panels_by_band(bands, height=4.6)
        axes[0].set_ylabel("pass@k (%), 95 % interval")
        for axis, band in zip(axes, bands, strict=True):
            part = curves[curves["band"] == band]
            for colour, marker, (stage, rows) in zip(
                COLOURS, MARKERS, part.groupby("stage", sort=False), strict=False
            ):
                mean = _mean_over(rows.rename(columns={"pass_at_k": "accuracy"}), "k")
                k, low, high = mean["k"], 100 * mean["low"], 100 * mean["high"]
                axis.plot(
                    k, 100 * mean["accuracy"], color=colour, marker=marker, label=short(stage)
                )
                axis.fill_between(k, low, high, color=colour, alpha=0.15)
            axis.set_xticks(sorted(set(part["k"])), [str(k) for k in sorted(set(part["k"]))])
            axis.set_xlabel("k, samples per question")
        put_legend(figure, axes)
    plt.close(figure)
    return figure


def plot_by_steps(rows: Any) -> Any:
    """Greedy accuracy by number of steps, a line per stage: left asked in chat, right plain.

    The dotted line in the left panel is the base model in its best form.

    Args:
        rows: stage, seed, form, decoding, steps, accuracy, low, high; for several seeds see
            `plots.over_seeds`.
    """
    import matplotlib.pyplot as plt

    if "decoding" in rows:
        rows = rows[rows["decoding"] == "greedy"]
    stages = list(dict.fromkeys(rows["stage"]))
    forms = [form for form in ("chat", "plain") if len(of_form(rows, form))]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(forms), figsize=(5.2 * len(forms) + 2.4, 4.6), sharey=True, squeeze=False
        )
        for axis, form in zip(axes[0], forms, strict=True):
            for k, stage in enumerate(stages):
                part = of_form(rows, form)
                part = part[part["stage"] == stage]
                if part.empty:
                    continue
                mean = _mean_over(part, "steps")
                y, error = percent_of(mean)
                x = mean["steps"] + 0.06 * (k - (len(stages) - 1) / 2)
                style = {"color": COLOURS[k], "marker": MARKERS[k], "label": short(stage)}
                axis.errorbar(x, y, error, capsize=3, **style)
            if form == "chat" and len(forms) > 1:
                base = rows[rows["stage"] == stages[0]]
                best = (
                    100 * base.groupby(["steps", "form"])["accuracy"].mean().groupby("steps").max()
                )
                axis.plot(best.index, best, ":", color="black", label="base in its best form")
            asked = "asked through the chat template" if form == "chat" else "question continued"
            axis.set_title(asked)
            axis.set_xlabel("steps of the problem")
            axis.set_xticks(sorted(set(rows["steps"])))
        axes[0, 0].set_ylabel("accuracy (%), greedy,\n95 % interval")
        axes[0, 0].set_ylim(-2, 102)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside center right")
    plt.close(figure)
    return figure


def plot_voting(curves: Any, bands: Sequence[str]) -> Any:
    """Accuracy over tokens spent on a question, one panel per band, one line per stage.

    Solid: self-consistency over 1, 2, 4, ... samples. Dotted: the best of them by the checker.

    Args:
        curves: rows of `voting.curves`; several seeds as in `plots.over_seeds`.
        bands: those to draw; bands without rows are left out.
    """
    import matplotlib.pyplot as plt

    bands = [band for band in bands if (curves["band"] == band).any()]
    with plt.rc_context(STYLE):
        figure, axes = _panels_by_band(bands, height=4.9)
        axes[0].set_ylabel("accuracy (%), 95 % interval")
        for axis, band in zip(axes, bands, strict=True):
            part = curves[curves["band"] == band]
            for k, (stage, rows) in enumerate(part.groupby("stage", sort=False)):
                style = {"color": COLOURS[k], "marker": MARKERS[k]}
                for method, line in (("vote", "-"), ("best", ":")):
                    own = rows[rows["method"] == method]
                    y, error = percent_of(_mean_over(own, "k"))
                    x = own.groupby("k", sort=False)["tokens"].mean()
                    label = short(stage) if method == "vote" else None
                    axis.errorbar(x, y, error, ls=line, capsize=3, label=label, **style)
            axis.xaxis.set_major_formatter("{x:.0f}")
            axis.set_xlabel("tokens spent on a question")
        put_legend(figure, axes)
    plt.close(figure)
    return figure
