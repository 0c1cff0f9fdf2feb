"""Figures of rewards: a group of completions, the hack bench, reward models, reward hacking."""

from __future__ import annotations

from typing import Any

from trlm_utils.plots import COLOURS, MARKERS, STYLE, make_panels, put_legend


def plot_hacking(curves: Any) -> Any:
    """Reward (top) and held-out accuracy (bottom) over training steps, one column per group.

    Lines are means over seeds; shaded bands reach from the lowest to the highest seed.

    Args:
        curves: rows with group, arm (the arm with the remedy first), seed, step, reward,
            held_out_accuracy (`trlm_utils.evaluation.arms.curves`).
    """
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(curves["group"]))
    wanted = (
        ("reward", 1.0, "reward that is paid"),
        ("held_out_accuracy", 100.0, "held-out\naccuracy (%)"),
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(groups), figsize=(3.6 * len(groups) + 0.6, 6.0), sharex=True, squeeze=False
        )
        for column, group in zip(axes.T, groups, strict=True):
            rows = curves[curves["group"] == group]
            for axis, (name, scale, label) in zip(column, wanted, strict=True):
                for k, arm in enumerate(dict.fromkeys(rows["arm"])):
                    part = rows[(rows["arm"] == arm) & rows[name].notna()]
                    if name == "reward":  # mean of 5 steps, because each step has other prompts
                        part = part.assign(step=5 * ((part["step"] - 1) // 5) + 3)
                    seeds = scale * part.groupby(["step", "seed"])[name].mean().unstack()
                    _seeds_line(axis, seeds, k, arm)
                if axis in axes[:, 0]:
                    axis.set_ylabel(label)
            column[1].set_ylim(-2, 102)
            column[1].set_xlabel("step")
            column[0].set_title(group)
            column[1].legend(frameon=False, fontsize=10, loc="best")
    plt.close(figure)
    return figure


def _seeds_line(axis: Any, seeds: Any, k: int, label: str) -> None:
    """The mean of the seeds (columns) over steps (rows), shaded from lowest to highest."""
    style = {"color": COLOURS[k], "marker": MARKERS[k], "markersize": 5}
    axis.plot(seeds.index, seeds.mean(axis=1), label=label, **style)
    low, high = seeds.min(axis=1), seeds.max(axis=1)
    axis.fill_between(seeds.index, low, high, color=COLOURS[k], alpha=0.15)


def plot_group(table: Any) -> Any:
    """One group of completions: its weighted rewards, and the resulting advantages.

    Args:
        table: rows with completion, one column per reward (weighted), total, advantage
            (`trlm_utils.rewards.explorer.compare`).
    """
    import matplotlib.pyplot as plt

    parts = [name for name in table if name not in ("completion", "total", "advantage")]
    places = range(len(table))
    with plt.rc_context(STYLE):
        size = (12, 0.5 * len(table) + 2.2)
        figure, (paid, moved) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(3, 2))
        ends = {1: [0.0] * len(table), -1: [0.0] * len(table)}  # ends of stacked bars, by sign
        for k, part in enumerate(parts):
            signs = [1 if value >= 0 else -1 for value in table[part]]
            left = [ends[sign][i] for i, sign in enumerate(signs)]
            style = {"color": COLOURS[k % 6], "hatch": "//" * (k // 6), "edgecolor": "white"}
            paid.barh(places, table[part], left=left, label=part.replace("_", " "), **style)
            for i, (sign, value) in enumerate(zip(signs, table[part], strict=True)):
                ends[sign][i] += value
        paid.plot(table["total"], places, "D", color="black", ms=8, label="total")
        paid.set_xlabel("weighted reward")
        best = table["advantage"].max()
        colours = [COLOURS[1] if a == best and a > 0 else COLOURS[5] for a in table["advantage"]]
        moved.barh(places, table["advantage"], color=colours)
        moved.set_xlabel("advantage in the group")
        for axis in (paid, moved):
            axis.axvline(0, color="black", lw=1)
            axis.set_axisbelow(True)
            axis.use_sticky_edges = False  # else the longest bar touches the frame
            axis.autoscale_view()
        paid.set_yticks(places, table["completion"])
        paid.invert_yaxis()
        figure.legend(frameon=False, loc="outside upper center", ncols=4)
    plt.close(figure)
    return figure


def plot_judges(table: Any) -> Any:
    """Histograms of reward models' scores for right and for wrong work, one panel per model.

    Args:
        table: rows with judge (the reward model), said (its score), truth ("right" or "wrong").
    """
    import matplotlib.pyplot as plt

    judges = list(dict.fromkeys(table["judge"]))
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(judges), width=5.2)
        for axis, judge in zip(axes, judges, strict=True):
            rows = table[table["judge"] == judge]
            ends = (rows["said"].min(), rows["said"].max())
            for colour, truth in zip(COLOURS, ("right", "wrong"), strict=False):
                said = rows.loc[rows["truth"] == truth, "said"]
                axis.hist(said, 24, ends, color=colour, alpha=0.6, label=truth)
            axis.set_xlabel(f"what the {judge} model says")
        axes[0].set_ylabel("replies or steps")
        put_legend(figure, axes)
    plt.close(figure)
    return figure


def plot_hack_bench(table: Any) -> Any:
    """Heat map of the rewards of bad behaviours under mixes, relative to honest, right work.

    A cell shows the margin divided by the mix's range (largest minus smallest total). 0 is
    the same reward as honest work, above 0 (orange, marked) is hackable, -1 is the lowest.

    Args:
        table: rows with mix, behaviour, total, margin (`trlm_utils.rewards.hack_bench.table`).
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    margins = table.pivot(index="behaviour", columns="mix", values="margin")
    totals = table.pivot(index="behaviour", columns="mix", values="total")
    order = [list(dict.fromkeys(table[name])) for name in ("behaviour", "mix")]
    shown = (margins / (totals.max() - totals.min())).loc[order[0], order[1]].fillna(0.0)
    colours = LinearSegmentedColormap.from_list("paid", [COLOURS[0], "white", COLOURS[1]])
    with plt.rc_context(STYLE | {"axes.grid": False}):
        size = (0.62 * len(order[1]) + 4.2, 0.36 * len(order[0]) + 2.6)
        figure, axis = plt.subplots(figsize=size)
        image = axis.imshow(shown, cmap=colours, vmin=-1, vmax=1, aspect="auto")
        for row, column in zip(*(shown.to_numpy() > 1e-6).nonzero(), strict=True):
            axis.text(column, row, "!", ha="center", va="center", weight="bold")
        names = [name.replace("_", " ") for name in order[1]]
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(order[0])), order[0])
        bar = figure.colorbar(image, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["paid least", "like honest work", "paid most"])
    plt.close(figure)
    return figure
