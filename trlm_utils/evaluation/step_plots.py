"""Figures of how many steps a model can chain: over training, and over architectures."""

from __future__ import annotations

from typing import Any

from trlm_utils import slide, titles
from trlm_utils.slide import COLOURS, MARKERS, STYLE

PAIRS = ((3, 4), (5, 6), (7, 8), (9, 10))  # numbers of steps that are drawn together


def by_pair(table: Any) -> Any:
    """Share right in every step for pairs of numbers of steps, weighted by questions, in %.

    Args:
        table: rows with arm, decoding, steps, n, checked (`arms.by_steps`).

    Returns:
        A frame with arm, decoding, pair (as "3 and 4"), checked.
    """
    names = {steps: f"{a} and {b}" for a, b in PAIRS for steps in (a, b)}
    rows = table[table["steps"].isin(names)].copy()
    rows["pair"] = rows["steps"].map(names)
    rows["got"] = rows["n"] * rows["checked"]
    sums = rows.groupby(["arm", "decoding", "pair"], sort=False)[["got", "n"]].sum()
    return (100 * sums["got"] / sums["n"]).rename("checked").reset_index()


def plot_frontier(table: Any) -> Any:
    """Right in every step over optimizer steps of GRPO, a line for each number of steps.

    Args:
        table: see `by_pair`; an arm's name is its number of optimizer steps.
    """
    import matplotlib.pyplot as plt

    rows = by_pair(table)
    rows["trained"] = rows["arm"].astype(int)
    with plt.rc_context(STYLE):
        figure, axes = slide.make_panels(2, sharey=True)
        for axis, decoding in zip(axes, ("greedy", "sampled"), strict=True):
            own = rows[rows["decoding"] == decoding].sort_values("trained")
            for k, (a, b) in enumerate(PAIRS):
                pair, style = f"{a} and {b}", {"color": COLOURS[k], "marker": MARKERS[k]}
                line = own[own["pair"] == pair]
                axis.plot(line["trained"], line["checked"], label=f"{pair} steps", **style)
            axis.set_title(decoding)
            axis.set_xlabel("optimizer steps of GRPO")
            axis.set_ylim(-2, 102)
        axes[0].set_ylabel("right in every step (%)")
        slide.put_legend(figure, axes)
        seeds = int(table["seeds"].min())
        about = titles.about(0, seeds, more="256 completions of 32 prompts a step")
        slide.put_title(figure, frontier_message(rows), about)
    plt.close(figure)
    return figure


def frontier_message(rows: Any) -> str:
    """First and last level on the longest problems, as a sentence."""
    pair = "{} and {}".format(*PAIRS[-1])
    parts = []
    for decoding in ("sampled", "greedy"):
        own = rows[(rows["decoding"] == decoding) & (rows["pair"] == pair)]
        own = own.sort_values("trained")["checked"]
        parts.append(f"{own.iloc[0]:.0f} to {own.iloc[-1]:.0f} % {decoding}")
    return f"{rows['trained'].max()} updates of GRPO; problems of {pair} steps: {', '.join(parts)}"


def plot_lengths(table: Any) -> Any:
    """Right in every step, greedily, over the number of steps, a line for each arm.

    Args:
        table: rows with arm, decoding, steps, n, seeds, checked (`arms.by_steps`).
    """
    import matplotlib.pyplot as plt

    rows = table[table["decoding"] == "greedy"].sort_values("steps")
    arms = list(dict.fromkeys(table["arm"]))
    with plt.rc_context(STYLE):
        figure, (axis,) = slide.make_panels(1)
        for k, arm in enumerate(arms):
            own = rows[rows["arm"] == arm]
            style = {"color": COLOURS[k], "marker": MARKERS[k]}
            axis.plot(own["steps"], 100 * own["checked"], label=arm, **style)
        axis.set_xticks(sorted(rows["steps"].unique()))
        axis.set_ylim(-2, 102)
        axis.set_xlabel("steps of the problem")
        axis.set_ylabel("right in every step, greedy (%)")
        slide.put_legend(figure, [axis])
        about = titles.about(int(rows["n"].min()), int(rows["seeds"].min()), "questions or more")
        slide.put_title(figure, lengths_message(rows, arms), about)
    plt.close(figure)
    return figure


def lengths_message(rows: Any, arms: list[str]) -> str:
    """The level of every arm on problems of 7 and 8 steps, as a sentence."""
    pairs = by_pair(rows)
    pairs = pairs[pairs["pair"] == "{} and {}".format(*PAIRS[2])].set_index("arm")["checked"]
    told = ", ".join(f"{pairs[arm]:.0f} % ({arm})" for arm in arms)
    return f"The same rows, 7 and 8 steps: {told}"
