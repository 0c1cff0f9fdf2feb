"""The equal-budget map: what each kind of training signal buys, and what it has to know.

Notebook 14 draws it from the group `GROUP` of the recipe ``algorithms``.
"""

from __future__ import annotations

from typing import Any

from trlm_utils import plots, slide, stats, titles

GROUP = "signal"  # the group of the recipe whose arms are on the map
# What an arm has to know -> arms, from least to most
NEEDS = {
    "start": ("start",),
    "nothing": ("random selection", "self-distillation"),
    "labels": ("learned judge", "learned judge, KL"),
    "a checker": ("rejection sampling", "DPO", "GRPO", "Dr. GRPO", "PPO"),
    "a step checker": ("step rewards", "worst step"),
    "solutions": ("solutions, same problems", "solutions, new problems"),
    "a teacher": ("on-policy distillation",),
}
BANDS = ("in_distribution", "longer", "longest")


def in_order(table: Any) -> Any:
    """The rows of the map through the chat template, with a column ``needs``, by what is needed."""
    rows = plots.of_form(table[table["group"] == GROUP]).copy()
    needs = {arm: need for need, arms in NEEDS.items() for arm in arms}
    rows["needs"] = rows["arm"].map(lambda arm: needs.get(arm, "?"))
    place = {arm: i for i, arm in enumerate(needs)}
    rows["place"] = rows["arm"].map(lambda arm: place.get(arm, len(place)))
    return rows.sort_values("place", kind="stable")


def overview(table: Any) -> Any:
    """One row an arm: what it needs, minutes, and sampled and checked accuracy by band, in %.

    Args:
        table: see `arms.table`.
    """
    import pandas as pd

    rows = []
    for arm, found in in_order(table).groupby("arm", sort=False):
        row = {"arm": arm, "needs": found["needs"].iloc[0]}
        if "seconds" in found and found["seconds"].notna().any():
            row["minutes"] = f"{found['seconds'].iloc[0] / 60:.1f}"
        for band in BANDS:
            own = found[found["band"] == band]
            for name, part in own.groupby("decoding", sort=False):
                one = part.iloc[0]
                row[f"{band}, {name}"] = f"{stats.percent(one['accuracy'])} {stats.interval(one)}"
            sampled = own[own["decoding"] == "sampled"]
            if len(sampled):
                row[f"{band}, every step"] = stats.percent(sampled["checked"].iloc[0])
        rows.append(row)
    return pd.DataFrame(rows)


def plot(table: Any) -> Any:
    """Sampled accuracy of each arm by band; hollow: every step right. Returns a figure.

    Args:
        table: see `arms.table`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    rows = in_order(table)
    rows = rows[rows["decoding"] == "sampled"]
    arms = list(dict.fromkeys(rows["arm"]))
    bands = [band for band in BANDS if band in set(rows["band"])]
    colours = dict(zip(NEEDS, (slide.GREY, *slide.COLOURS), strict=False))
    with plt.rc_context(slide.STYLE):
        figure, axes = slide.make_panels(len(bands), sharey=True)
        for axis, band in zip(axes, bands, strict=True):
            own = rows[rows["band"] == band]
            for one in own.to_dict("records"):
                y, colour = arms.index(one["arm"]), colours.get(one["needs"], "black")
                axis.plot([100 * one["low"], 100 * one["high"]], [y, y], color=colour)
                axis.plot(100 * one["accuracy"], y, "o", color=colour)
                axis.plot(100 * one["checked"], y, "o", color=colour, fillstyle="none")
            for value in own[own["arm"] == "start"]["accuracy"]:
                axis.axvline(100 * value, color="black", lw=1, ls=":")
            axis.set_title(band.replace("_", " "))
            axis.set_xlabel("sampled (%)")
            axis.set_xlim(0, 102)
        axes[0].set_yticks(range(len(arms)), arms)
        axes[0].invert_yaxis()
        used = dict.fromkeys(rows["needs"])
        knows = {f"knows {need}" if need != "start" else need: colours[need] for need in used}
        dots = {label: Line2D([], [], color=c, marker="o", ls="") for label, c in knows.items()}
        slide.put_legend(figure, [], dots)
        seeds, n = int(rows["seeds"].min()), int(rows["n"].min())
        rule = "filled: the answer is right; hollow: every step is, too"
        slide.put_title(figure, message(rows), titles.about(n, seeds, "questions a band", rule))
    plt.close(figure)
    return figure


def message(rows: Any) -> str:
    """Which arms end above the start on the first band, and which are not told from it."""
    first = rows[(rows["band"] == rows["band"].iloc[0]) & (rows["arm"] != "start")]
    if "difference" not in first or first["difference"].isna().all():
        return "What each signal buys"
    return f"{first['band'].iloc[0].replace('_', ' ')}: {titles.verdicts(first, 'the start')}"
