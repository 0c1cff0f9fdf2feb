"""Figures of an evaluation: the ladder, accuracy by number of steps, pass@k, voting.

Blue is greedy, vermilion is sampled; where lines are stages, each has a colour of its own. A
filled mark is form "chat", a hollow one form "plain" (`evaluation.ladder`). A dotted line is the
base model in its best form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trlm_utils import titles
from trlm_utils.plots import DECODING_STYLE, of_form, over_seeds, percent_of, short
from trlm_utils.slide import COLOURS, MARKERS, STYLE, make_panels, put_legend, put_title

STAGE_COLOURS = {  # none of greedy's and sampled's
    "00_start_here": COLOURS[6],
    "02_sft_stage1": COLOURS[5],
    "03_sft_stage2": COLOURS[3],
    "04_dpo": COLOURS[2],
    "06_grpo": COLOURS[4],
}
FLAT = 0.1  # a band on which stages differ by less is named and not drawn
MOST_PANELS = 3


def stage_styles(stages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each stage: the same in all figures for the course's own stages."""
    spare = [colour for colour in COLOURS if colour not in STAGE_COLOURS.values()]
    others = [stage for stage in stages if stage not in STAGE_COLOURS]
    colours = STAGE_COLOURS | {
        stage: [*spare, *STAGE_COLOURS.values()][k % 7] for k, stage in enumerate(others)
    }
    order = [*STAGE_COLOURS, *others]
    return {
        stage: {"color": colours[stage], "marker": MARKERS[order.index(stage) % 7]}
        for stage in stages
    }


def moving_bands(ladder: Any) -> tuple[list[str], dict[str, float]]:
    """The bands to draw, and the highest accuracy on each of the others.

    Drawn are the first `MOST_PANELS` on which the stages' means in form "chat" differ by `FLAT`
    and more; if there is none, the first band.
    """
    drawn, left = [], {}
    for band, rows in ladder.groupby("band", sort=False):
        means = of_form(rows).groupby(["decoding", "stage"])["accuracy"].mean()
        spread = means.groupby("decoding").agg(lambda found: found.max() - found.min())
        if spread.max() >= FLAT and len(drawn) < MOST_PANELS:
            drawn.append(band)
        else:
            left[band] = means.max()
    if not drawn:
        drawn = list(left)[:1]
    return drawn, {band: most for band, most in left.items() if band not in drawn}


def about_rows(rows: Any, left: dict[str, float], more: str = "95 % intervals") -> str:
    """What a figure of these rows stands on, and the bands left out with their highest accuracy."""
    seeds = int(rows["seed"].nunique()) if "seed" in rows else 0
    if "seeds" in rows:
        seeds = int(rows["seeds"].min())
    asked = rows["n"].min() if "n" in rows else 0
    if left:
        found = [f"{band.replace('_', ' ')} {100 * most:.0f} %" for band, most in left.items()]
        more += f"; not drawn, at most: {', '.join(found)}"
    least = " or more" if "n" in rows and rows["n"].max() > asked else ""
    return titles.about(asked, seeds, f"questions a band{least}", more)


def plot_ladder(ladder: Any, joined: bool = True, comparisons: Any = None) -> Any:
    """Accuracy with 95 % intervals by stage, one panel per band (`moving_bands`).

    The first stage is the base model; a dotted line carries its best form through the panel.
    Stages that are no rung of the ladder (column ``rung``) stand on the right of a line.

    Args:
        ladder: rows with stage, seed, band, decoding, accuracy, low, high, n, form and rung
            (without these two columns: "chat", and every stage a rung). With several seeds
            their mean is drawn (`plots.over_seeds`), and each seed as a dot.
        joined: draw lines from stage to stage; not for arms, which have no order.
        comparisons: rows with from, to, band, form, decoding, difference, low, high
            (`pooling.pooled`); the title then says what the last rung changed.
    """
    import matplotlib.pyplot as plt

    bands, left = moving_bands(ladder)
    stages = list(dict.fromkeys(ladder["stage"]))
    bands = bands if len(stages) <= 8 else bands[:2]
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(bands), sharey=True)
        for axis, band in zip(axes, bands, strict=True):
            _ladder_panel(axis, ladder[ladder["band"] == band], stages, joined)
            axis.set_title(band.replace("_", " "))
        axes[0].set_ylabel("accuracy (%)")
        axes[0].set_ylim(-2, 102)
        put_legend(figure, axes)
        message = _last_rung(comparisons, bands[0]) or ladder_message(ladder, bands[0])
        put_title(figure, message, about_rows(ladder, left))
    plt.close(figure)
    return figure


def successive(comparisons: Any) -> Any:
    """Rows of comparisons in form "chat" that go from a stage to the next, each once."""
    rows = of_form(comparisons)
    if "from_form" in rows:  # not those against the base model's other form
        rows = rows[rows["from_form"] == "chat"]
    stages = list(dict.fromkeys(rows[["from", "to"]].to_numpy().ravel()))
    next_one = dict(zip(stages, stages[1:], strict=False))
    rows = rows[rows["to"] == rows["from"].map(next_one)]
    return rows.drop_duplicates(["from", "to", "band", "decoding"])


def _last_rung(comparisons: Any, band: str) -> str:
    """What the last stage changed on a band, sampled in form "chat"; "" where it is unknown."""
    if comparisons is None or comparisons.empty:
        return ""
    rows = successive(comparisons)
    rows = rows[(rows["band"] == band) & (rows["decoding"] == "sampled")]
    if rows.empty:
        return ""
    row = rows.iloc[-1]
    what = f"accuracy ({band.replace('_', ' ')}, sampled)"
    return titles.effect(short(row["to"]), what, row["difference"], row["low"], row["high"])


def ladder_message(ladder: Any, band: str) -> str:
    """The levels of the base model in its best form and of the last rung, sampled."""
    rows = ladder[ladder["band"] == band]
    rows = rows[rows["rung"].ne(False)] if "rung" in rows else rows
    decoding = "sampled" if (rows["decoding"] == "sampled").any() else rows["decoding"].iloc[0]
    rows = rows[rows["decoding"] == decoding]
    first, last = rows["stage"].iloc[0], rows["stage"].iloc[-1]
    form = "form" if "form" in rows else "stage"
    base = rows[rows["stage"] == first].groupby(form)["accuracy"].mean().max()
    end = of_form(rows[rows["stage"] == last])["accuracy"].mean()
    levels = f"{short(first)} at its best {100 * base:.1f} %, {short(last)} {100 * end:.1f} %"
    return f"{decoding.capitalize()}, {band.replace('_', ' ')}: {levels}"


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
    many = {"rotation": 90, "va": "center"} if len(names) > 8 else {"rotation": 40}
    axis.set_xticks(list(place.values()), names, ha="right", rotation_mode="anchor", **many)


def _panels_by_band(bands: Sequence[str]) -> tuple[Any, list[Any]]:
    """A row of panels titled by band: per cent on a shared y axis, powers of two along x."""
    figure, axes = make_panels(len(bands), max(1, len(bands)), sharey=True)
    for axis, band in zip(axes, bands, strict=True):
        axis.set_xscale("log", base=2)
        axis.set_title(band.replace("_", " "))
    axes[0].set_ylim(-2, 102)
    return figure, axes


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
    bands = list(dict.fromkeys(curves["band"]))[:MOST_PANELS]
    styles = stage_styles(list(dict.fromkeys(curves["stage"])))
    with plt.rc_context(STYLE):
        figure, axes = _panels_by_band(bands)
        axes[0].set_ylabel("pass@k (%)")
        for axis, band in zip(axes, bands, strict=True):
            part = curves[curves["band"] == band]
            for stage, rows in part.groupby("stage", sort=False):
                mean = _mean_over(rows.rename(columns={"pass_at_k": "accuracy"}), "k")
                k, low, high = mean["k"], 100 * mean["low"], 100 * mean["high"]
                axis.plot(k, 100 * mean["accuracy"], label=short(stage), **styles[stage])
                axis.fill_between(k, low, high, color=styles[stage]["color"], alpha=0.15, lw=0)
            axis.set_xticks(sorted(set(part["k"])), [str(k) for k in sorted(set(part["k"]))])
            axis.set_xlabel("k, samples per question")
        put_legend(figure, axes)
        how = "right in every step" if counted == "checked" else "right answers"
        about = about_rows(curves, {}, f"{how}; 95 % intervals")
        put_title(figure, pass_message(curves[curves["band"] == bands[0]]), about)
    plt.close(figure)
    return figure


def pass_message(curves: Any) -> str:
    """pass@k of the first and of the last stage, at the smallest and at the largest k."""
    mean = curves.groupby(["stage", "k"], sort=False)["pass_at_k"].mean().unstack()
    first, last = mean.index[0], mean.index[-1]
    said = [
        f"pass@{k} {100 * mean.loc[first, k]:.0f} to {100 * mean.loc[last, k]:.0f} %"
        for k in sorted({mean.columns.min(), mean.columns.max()})
    ]
    band = curves["band"].iloc[0].replace("_", " ")
    return f"From {short(first)} to {short(last)}, {band}: {', '.join(said)}"


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
    styles = stage_styles(stages)
    forms = [form for form in ("chat", "plain") if len(of_form(rows, form))]
    with plt.rc_context(STYLE):
        figure, axes = make_panels(len(forms), sharey=True)
        for axis, form in zip(axes, forms, strict=True):
            for k, stage in enumerate(stages):
                part = of_form(rows, form)
                part = part[part["stage"] == stage]
                if part.empty:
                    continue
                mean = _mean_over(part, "steps")
                y, error = percent_of(mean)
                x = mean["steps"] + 0.06 * (k - (len(stages) - 1) / 2)
                axis.errorbar(x, y, error, capsize=3, label=short(stage), **styles[stage])
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
        axes[0].set_ylabel("accuracy (%), greedy")
        axes[0].set_ylim(-2, 102)
        put_legend(figure, axes)
        least = f"n {rows['n'].min():,} questions and more a length, " if "n" in rows else ""
        seeds = titles.about(0, rows["seed"].nunique(), more="95 % intervals")
        put_title(figure, reach_message(rows), least + seeds)
    plt.close(figure)
    return figure


def reach_message(rows: Any) -> str:
    """Up to how many steps each stage is right at least half the time, in its better form."""
    keys = [name for name in ("stage", "steps", "form") if name in rows]
    best = rows.groupby(keys, sort=False)["accuracy"].mean()
    best = best.groupby(["stage", "steps"], sort=False).max().unstack()
    reached = {}
    for stage, row in best.iterrows():
        steps = 0
        for length in sorted(best.columns):
            if row[length] < 0.5:
                break
            steps = length
        reached[short(stage)] = steps
    said = ", ".join(f"{stage} {steps}" for stage, steps in reached.items())
    return f"Half or more right up to this many steps: {said}"


def plot_voting(curves: Any, bands: Sequence[str]) -> Any:
    """Accuracy over tokens spent on a question, one panel per band, one line per stage.

    Solid: self-consistency over 1, 2, 4, ... samples. Dotted: the best of them by the checker.

    Args:
        curves: rows of `voting.curves`; several seeds as in `plots.over_seeds`.
        bands: those to draw; bands without rows are left out.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    bands = [band for band in bands if (curves["band"] == band).any()][:MOST_PANELS]
    styles = stage_styles(list(dict.fromkeys(curves["stage"])))
    with plt.rc_context(STYLE):
        figure, axes = _panels_by_band(bands)
        axes[0].set_ylabel("accuracy (%)")
        for axis, band in zip(axes, bands, strict=True):
            part = curves[curves["band"] == band]
            for stage, rows in part.groupby("stage", sort=False):
                for method, line in (("vote", "-"), ("best", ":")):
                    own = rows[rows["method"] == method]
                    y, error = percent_of(_mean_over(own, "k"))
                    x = own.groupby("k", sort=False)["tokens"].mean()
                    label = short(stage) if method == "vote" else None
                    axis.errorbar(x, y, error, ls=line, capsize=3, label=label, **styles[stage])
            axis.xaxis.set_major_formatter("{x:.0f}")
            axis.set_xlabel("tokens on a question")
        lines = {"vote": "-", "best by the checker": ":"}
        more = {name: Line2D([], [], color="black", ls=line) for name, line in lines.items()}
        put_legend(figure, axes, more)
        message = voting_message(curves[curves["band"] == bands[0]])
        put_title(figure, message, about_rows(curves[curves["band"].isin(bands)], {}))
    plt.close(figure)
    return figure


def voting_message(curves: Any) -> str:
    """The earliest stage whose vote reaches what the last stage does with one sample."""
    votes = curves[curves["method"] == "vote"]
    mean = votes.groupby(["stage", "k"], sort=False)["accuracy"].mean().unstack()
    last, most = mean.index[-1], mean.columns.max()
    one = mean.loc[last, mean.columns.min()]
    band = votes["band"].iloc[0].replace("_", " ")
    alone = f"one sample of {short(last)}: {100 * one:.1f} %"
    for stage in mean.index[:-1]:
        reached = mean.loc[stage, most]
        if reached >= one:
            vote = f"vote of {most} by {short(stage)} {100 * reached:.1f} %"
            return f"{band.capitalize()}: {vote}, {alone}"
    return f"{band.capitalize()}: no earlier stage's vote of {most} reaches {alone}"
