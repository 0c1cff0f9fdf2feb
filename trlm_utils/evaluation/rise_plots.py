"""Figures of changes: from each stage to the next, and from the start to the end of recipes."""

from __future__ import annotations

from typing import Any

from trlm_utils import titles
from trlm_utils.evaluation.ladder_plots import MOST_PANELS, about_rows, successive
from trlm_utils.plots import DECODING_STYLE, over_seeds, percent_of, short
from trlm_utils.slide import STYLE, make_panels, put_legend, put_title


def plot_rises(comparisons: Any, asked: int = 0) -> Any:
    """Change in accuracy from each stage to the next, one panel per band, 95 % intervals.

    Args:
        comparisons: rows with from, to, band, decoding, difference, low, high; drawn are the first
            `MOST_PANELS` bands in which a change was detected.
        asked: questions a band, for the line below the title.
    """
    import matplotlib.pyplot as plt

    comparisons = successive(comparisons)
    found = [titles.detected(*ends) for ends in comparisons[["low", "high"]].to_numpy()]
    bands = list(dict.fromkeys(comparisons["band"][[bool(sign) for sign in found]]))
    bands = bands[:MOST_PANELS] or list(dict.fromkeys(comparisons["band"]))[:1]
    stages = list(dict.fromkeys(comparisons["to"]))
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(bands), sharex=True, sharey=True)
        for axis, band in zip(axes, bands, strict=True):
            for decoding, (colour, marker, _) in DECODING_STYLE.items():
                part = comparisons[
                    (comparisons["band"] == band) & (comparisons["decoding"] == decoding)
                ]
                if part.empty:
                    continue
                y = [stages.index(stage) + 0.2 * (decoding == "sampled") for stage in part["to"]]
                x, error = percent_of(part)
                style = {"color": colour, "marker": marker, "ls": "", "capsize": 4}
                axis.errorbar(x, y, xerr=error, label=decoding, **style)
            axis.axvline(0, color="black", lw=1.5)
            axis.set_title(band.replace("_", " "))
            axis.set_yticks(range(len(stages)), map(short, stages))
            axis.set_xlabel("points")
        axes[0].set_ylim(len(stages) - 0.5, -0.5)
        put_legend(figure, axes)
        about = about_rows(comparisons.assign(n=asked), {})
        put_title(figure, rises_message(comparisons, bands[0]), about)
    plt.close(figure)
    return figure


def rises_message(comparisons: Any, band: str) -> str:
    """Which stages changed accuracy on a band, by decoding, against the stage before."""
    said = []
    for decoding in DECODING_STYLE:
        rows = comparisons[(comparisons["band"] == band) & (comparisons["decoding"] == decoding)]
        signs: dict[int, list[str]] = {1: [], -1: [], 0: []}
        for row in rows.to_dict("records"):
            signs[titles.detected(row["low"], row["high"])].append(short(row["to"]))
        words = {1: "higher after", -1: "lower after", 0: "no difference detected for"}
        parts = [f"{words[sign]} {', '.join(names)}" for sign, names in signs.items() if names]
        if parts:
            said.append(f"{decoding} {', '.join(parts)}")
    return f"{band.replace('_', ' ').capitalize()}: {'; '.join(said)}"


def plot_recipes(ladder: Any, ends: dict[str, tuple[str, str]]) -> Any:
    """Where each recipe starts (hollow) and ends (filled), greedy and sampled, one line each.

    Args:
        ladder: rows with recipe, stage, seed, band (one), decoding, accuracy, low, high.
        ends: recipe -> (its first stage, its result).
    """
    import matplotlib.pyplot as plt

    names = list(ends)
    gained = {}
    with plt.rc_context(STYLE):
        figure, (axis,) = make_panels(1)
        for decoding, (colour, marker, _) in DECODING_STYLE.items():
            own = ladder[ladder["decoding"] == decoding]
            for k, (name, pair) in enumerate(ends.items()):
                y = k + 0.22 * (decoding == "sampled")
                places = []
                for stage, filled in zip(pair, (False, True), strict=True):
                    rows = own[(own["recipe"] == name) & (own["stage"] == stage)]
                    if rows.empty:
                        continue
                    x, error = percent_of(over_seeds(rows))
                    style = {"color": colour, "marker": marker, "capsize": 4, "ls": ""}
                    style |= {"label": decoding} if filled else {"mfc": "white", "alpha": 0.7}
                    axis.errorbar(x, [y], xerr=error, **style)
                    places.append(float(x.iloc[0]))
                if len(places) == 2:
                    axis.plot(places, [y, y], color=colour, lw=1, alpha=0.5)
                    gained.setdefault(decoding, []).append(places[1] - places[0])
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.5)
        axis.set_xlim(-2, 102)
        axis.set_xlabel("accuracy (%): hollow at the start, filled at the end, 95 % interval")
        put_legend(figure, [axis])
        shown = gained.get("sampled") or gained.get("greedy") or [0.0]
        decoding = "sampled" if "sampled" in gained else "greedy"
        message = f"From start to end, {decoding}: {min(shown):+.0f} to {max(shown):+.0f} points"
        more = "budgets and models differ: no ranking"
        put_title(figure, message, about_rows(ladder, {}, more))
    plt.close(figure)
    return figure
