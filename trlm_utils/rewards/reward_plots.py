"""Figures of rewards: a group of completions, the hack bench, reward models, reward hacking.

Vermilion marks what is paid against what is wanted: a trick that a mix pays more than honest
work, an arm that is gamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils import titles
from trlm_utils.plots import SMOOTH, smoothed
from trlm_utils.rewards import hack_bench
from trlm_utils.rewards import mixes as known
from trlm_utils.slide import COLOURS, GREY, STYLE, make_panels, put_legend, put_title

ALARM, CURE, UNHARMED = COLOURS[1], COLOURS[0], COLOURS[2]
# Rewards have the colours that mean nothing else in a figure of a group.
REWARD_COLOURS = (COLOURS[0], COLOURS[4], COLOURS[2], COLOURS[3], COLOURS[5], "#F0E442")
CELLS = ("#B9CFE4", "#DCE7F1", "#FFFFFF", ALARM)  # much less, less, the same, more
MOST_NAMED = 4  # mixes that a title names; more are only counted
LESS = 0.5  # of the mix's range: from here on a behaviour is paid much less
EXPLAINED = (  # what the text of notebook 05 explains: mixes, then each reward alone
    *("this mix", "short at any price", "accuracy", "think_format", "reasoning_steps"),
    *("cosine", "ngram_repetition", "repetition", "routed", "brevity"),
)
WORDS = ("paid much less", "less", "the same (=)", "more (!) than honest, right work")


def outcome(rows: Any) -> str:
    """How an arm ended: "gamed", "rises" or "no rise".

    Gamed: in every seed the reward is higher at the end than at the start (`plots.smoothed`) and
    held-out accuracy is lower. Rises: accuracy is higher at the end in every seed.

    Args:
        rows: of one arm, with seed, step, reward, held_out_accuracy.
    """
    paid, wanted = [], []
    for _, own in rows.sort_values("step").groupby("seed"):
        for name, found in (("reward", paid), ("held_out_accuracy", wanted)):
            values = own[name].dropna()
            values = smoothed(values) if name == "reward" else values
            found.append(values.iloc[-1] - values.iloc[0])
    if min(paid) > 0 and max(wanted) < 0:
        return "gamed"
    return "rises" if min(wanted) > 0 else "no rise"


def plot_hacking(curves: Any, asked: int = 0) -> Any:
    """What is paid (top) and what is wanted (bottom) over training, one column per group.

    All panels share one axis in %. Paid is the mean reward as a share of the range that the
    arm's own reward took; wanted is held-out accuracy. Lines are means over seeds, reward as a
    mean of `plots.SMOOTH` steps; shaded bands reach from the lowest to the highest seed.

    Args:
        curves: rows with group, arm (the arm with the remedy first), seed, step, reward,
            held_out_accuracy (`trlm_utils.evaluation.arms.curves`).
        asked: prompts behind an accuracy, for the line below the title.
    """
    import matplotlib.pyplot as plt

    groups = list(dict.fromkeys(curves["group"]))
    ends = {}
    with plt.rc_context(STYLE):
        figure, axes = make_panels(2 * len(groups), len(groups), sharex=True, sharey=True)
        for k, group in enumerate(groups):
            rows = curves[curves["group"] == group]
            arms = list(dict.fromkeys(rows["arm"]))
            said = {arm: outcome(rows[rows["arm"] == arm]) for arm in arms}
            for arm in arms:
                style = _arm_style(arm == arms[0], said[arm])
                own = rows[rows["arm"] == arm]
                _seeds_line(axes[k], _paid(own), style)
                looked = own[own["held_out_accuracy"].notna()]
                seeds = looked.groupby(["step", "seed"])["held_out_accuracy"].mean().unstack()
                _seeds_line(axes[len(groups) + k], 100 * seeds, style)
            ends[group] = "gamed" in said.values()
            named = [f"{arm}: {_verdict(said[arm], ends[group])}" for arm in reversed(arms)]
            named = named if group in arms else [group, *named]
            axes[k].set_title("\n".join(named))
            axes[len(groups) + k].set_xlabel("step")
        axes[0].set_ylim(-3, 103)
        axes[0].set_ylabel("paid: reward,\n% of its range")
        axes[len(groups)].set_ylabel("wanted: held-out\naccuracy (%)")
        put_legend(figure, axes)
        gamed = [group for group, found in ends.items() if found]
        message = f"{len(gamed)} of {len(groups)} rewards are gamed: paid more, right less often"
        seeds = curves["seed"].nunique()
        rule = "gamed: so in every seed, last against first; shaded: lowest to highest seed"
        of = "check prompts a look (not the questions of the tables)"
        put_title(figure, message, titles.about(asked, seeds, of, rule))
    plt.close(figure)
    return figure


def _verdict(ended: str, any_gamed: bool) -> str:
    """An arm's outcome in words: beside a gamed arm, one that rises is a cure."""
    return "cured" if ended == "rises" and any_gamed else ended.replace("rises", "not gamed")


def _arm_style(first: bool, ended: str) -> dict[str, Any]:
    if ended == "gamed":
        return {"color": ALARM, "marker": "s", "label": "gamed"}
    if first:
        return {"color": CURE, "marker": "o", "label": "the reference, with the cure"}
    return {"color": UNHARMED, "marker": "^", "label": "another arm, not gamed"}


def _paid(rows: Any) -> Any:
    """Reward in % of the range that the arm's reward took, by five steps (rows) and seed."""
    rows = rows[rows["reward"].notna()]
    # a mean over some steps, because each step has other prompts
    middle = SMOOTH * ((rows["step"] - 1) // SMOOTH) + SMOOTH // 2 + 1
    seeds = rows.assign(step=middle).groupby(["step", "seed"])["reward"].mean().unstack()
    low, high = seeds.min().min(), seeds.max().max()
    return 100 * (seeds - low) / ((high - low) or 1.0)


def _seeds_line(axis: Any, seeds: Any, style: dict[str, Any]) -> None:
    """The mean of the seeds (columns) over steps (rows), shaded from lowest to highest."""
    axis.plot(seeds.index, seeds.mean(axis=1), markersize=6, **style)
    low, high = seeds.min(axis=1), seeds.max(axis=1)
    axis.fill_between(seeds.index, low, high, color=style["color"], alpha=0.15, lw=0)


def plot_group(table: Any) -> Any:
    """One group of completions: its weighted rewards, and the resulting advantages.

    A colour is a reward; advantages are dark above zero and light below.

    Args:
        table: rows with completion, one column per reward (weighted), total, advantage
            (`trlm_utils.rewards.explorer.compare`).
    """
    import matplotlib.pyplot as plt

    parts = [name for name in table if name not in ("completion", "total", "advantage")]
    places = range(len(table))
    with plt.rc_context(STYLE):
        figure, (paid, moved) = make_panels(2, sharey=True, width_ratios=(3, 2))
        ends = {1: [0.0] * len(table), -1: [0.0] * len(table)}  # ends of stacked bars, by sign
        for k, part in enumerate(parts):
            signs = [1 if value >= 0 else -1 for value in table[part]]
            left = [ends[sign][i] for i, sign in enumerate(signs)]
            style = {"color": REWARD_COLOURS[k % 6], "hatch": "//" * (k // 6)}
            style |= {"edgecolor": "white", "label": part.replace("_", " ")}
            paid.barh(places, table[part], left=left, **style)
            for i, (sign, value) in enumerate(zip(signs, table[part], strict=True)):
                ends[sign][i] += value
        paid.plot(table["total"], places, "D", color="black", ms=8, label="total")
        paid.set_xlabel("weighted reward")
        colours = ["#222222" if a > 0 else "#BBBBBB" for a in table["advantage"]]
        moved.barh(places, table["advantage"], color=colours)
        moved.set_xlabel("advantage in the group")
        for axis in (paid, moved):
            axis.axvline(0, color="black", lw=1)
            axis.set_axisbelow(True)
            axis.use_sticky_edges = False  # else the longest bar touches the frame
            axis.autoscale_view()
        paid.set_yticks(places, table["completion"])
        paid.invert_yaxis()
        put_legend(figure, [paid])
        put_title(figure, _group_message(table), f"n {len(table)} completions of one prompt")
    plt.close(figure)
    return figure


def _group_message(table: Any) -> str:
    """Which completions are learned from most; none where all have the same reward."""
    best = table["advantage"].max()
    if best <= 1e-9:
        return "All are paid the same: nothing is learned from this group"
    names = table.loc[table["advantage"] >= best - 1e-9, "completion"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"Most is learned from {names.iloc[0]!r}{more}: advantage {best:+.2f}"


def plot_judges(table: Any) -> Any:
    """Histograms of reward models' scores for right and for wrong work, one panel per model.

    Args:
        table: rows with judge (the reward model), said (its score), truth ("right" or "wrong").
    """
    import matplotlib.pyplot as plt

    judges = list(dict.fromkeys(table["judge"]))
    said, counted = [], []
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(judges))
        for axis, judge in zip(axes, judges, strict=True):
            rows = table[table["judge"] == judge]
            ends = (rows["said"].min(), rows["said"].max())
            for colour, truth in ((UNHARMED, "right"), (ALARM, "wrong")):
                found = rows.loc[rows["truth"] == truth, "said"]
                axis.hist(found, 24, ends, color=colour, histtype="step", lw=3, label=truth)
            axis.set_xlabel(f"what the {judge} model says")
            said.append(f"{judge} model {100 * right_above_wrong(rows):.0f} %")
            counted.append(f"{len(rows):,} scores ({judge})")
        axes[0].set_ylabel("replies or steps")
        put_legend(figure, axes)
        message = f"How often right work scores above wrong work: {', '.join(said)}"
        put_title(figure, message, f"n {', '.join(counted)}; chance: 50 %; ties count half")
    plt.close(figure)
    return figure


def right_above_wrong(rows: Any) -> float:
    """Share of pairs (right, wrong) with the higher score on the right; ties count half.

    It is the area under the ROC curve (Mann and Whitney 1947), from mean ranks.
    """
    ranks = rows["said"].rank()
    right = rows["truth"] == "right"
    n, m = int(right.sum()), int((~right).sum())
    if not n or not m:
        return 0.5
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * m))


def plot_hack_bench(table: Any, mixes: Sequence[str] = (), close: bool = False) -> Any:
    """Map of the rewards of bad behaviours under mixes, against honest, right work.

    Vermilion and "!": paid more, so hackable. White and "=": paid the same, the reward cannot
    tell. Pale: paid less, and paler where it is less than `LESS` of the mix's range (largest
    minus smallest total) below honest work.

    Args:
        table: rows with mix, behaviour, total, margin (`trlm_utils.rewards.hack_bench.table`).
        mixes: those to draw; all if the table has none of them. About 15 fit on a slide.
        close: leave out behaviours that none of these mixes pays as much as honest work.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    chosen = table[table["mix"].isin(mixes)]
    table = table if chosen.empty else chosen
    columns, levels = list(dict.fromkeys(table["mix"])), bench_levels(table)
    levels = levels.drop(hack_bench.HONEST, errors="ignore")
    kept = (levels >= 2).any(axis=1) | (not close)
    shown = levels[kept]
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, (axis,) = make_panels(1)
        axis.imshow(shown, cmap=ListedColormap(CELLS), vmin=-0.5, vmax=3.5, aspect="auto")
        for row, column in zip(*(shown.to_numpy() >= 2).nonzero(), strict=True):
            mark = "!" if shown.iloc[row, column] == 3 else "="
            axis.text(column, row, mark, ha="center", va="center", weight="bold")
        names = [name.replace("_", " ") for name in columns]
        upright = len(names) > 5
        style = {"rotation": 27, "ha": "left", "rotation_mode": "anchor"} if upright else {}
        axis.set_xticks(range(len(names)), names, **style)
        axis.xaxis.tick_top()
        axis.set_yticks(range(len(shown)), list(shown.index))
        for place in range(1, len(names)):
            axis.axvline(place - 0.5, color="white", lw=2)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        edge = {"edgecolor": GREY}
        patches = [Patch(facecolor=c, label=w, **edge) for c, w in zip(CELLS, WORDS, strict=True)]
        put_legend(figure, [], {patch.get_label(): patch for patch in patches})
        hidden = f"; {int((~kept).sum())} behaviours, paid less by all, left out" * (not all(kept))
        about = f"n {hack_bench.PROBLEMS} problems a behaviour, nothing trained{hidden}"
        put_title(figure, bench_message(levels, columns), about)
    plt.close(figure)
    return figure


def bench_pages(table: Any) -> dict[str, list[str]]:
    """The mixes of a table, divided so that each part fits on a slide: mixes, single rewards."""
    names = list(dict.fromkeys(table["mix"]))
    pages = {
        "hack_bench_mixes": [name for name in names if name not in known.REWARDS],
        "hack_bench_rewards": [name for name in names if name in known.REWARDS],
    }
    return {page: found for page, found in pages.items() if found}


def bench_levels(table: Any) -> Any:
    """Behaviours by mixes: 0 paid much less than honest work, 1 less, 2 the same, 3 more."""
    order = [list(dict.fromkeys(table[name])) for name in ("behaviour", "mix")]
    wide = {
        name: table.pivot(index="behaviour", columns="mix", values=name).loc[order[0], order[1]]
        for name in ("margin", "total")
    }
    margins, totals = wide["margin"], wide["total"]
    shares = (margins / (totals.max() - totals.min())).fillna(0.0)
    levels = (shares > -LESS).astype(int)
    levels = levels.mask(margins.abs() <= hack_bench.SMALLEST, 2)
    return levels.mask(margins > hack_bench.SMALLEST, 3)


def bench_message(levels: Any, columns: Sequence[str]) -> str:
    """How many mixes pay a trick more than honest work, and which where they are few."""
    hackable = [name for name in columns if (levels[name] == 3).any()]
    if not hackable:
        return f"None of {len(columns)} {_kind(columns)} pays a trick more than honest, right work"
    few = f": {', '.join(name.replace('_', ' ') for name in hackable)}"
    named = few if len(hackable) <= MOST_NAMED else ""
    verb = "pays" if len(hackable) == 1 else "pay"
    count = f"{len(hackable)} of {len(columns)} {_kind(columns)}"
    return f"{count} {verb} a trick more than honest, right work{named}"


def _kind(columns: Sequence[str]) -> str:
    return "rewards alone" if set(columns) <= set(known.REWARDS) else "mixes"
