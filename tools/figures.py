"""Draw the committed figures again from their committed tables; nothing is trained.

    python -m tools.figures              # all in figures/
    python -m tools.figures ladder tina  # some

The .svg and .png are written; the table is left as it is. `PAINTERS` knows the function behind
each name. A figure that does not fit a slide (`slide.problems`) is named, and the exit status
is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tools import threads
from trlm_utils import answers, nanoworld, plots, slide, titles
from trlm_utils.evaluation import (
    arm_plots,
    ladder_plots,
    operations,
    rise_plots,
    signal_map,
    step_plots,
)
from trlm_utils.evaluation import arms as tables
from trlm_utils.evaluation.ladder import BANDS_BY_LENGTH
from trlm_utils.files import PROJECT_ROOT, CourseError, shown
from trlm_utils.rewards import explorer, reward_plots
from trlm_utils.training import live

FIGURES = PROJECT_ROOT / "figures"
MANNERS = ("careful", "rambling", "hasty", "other", "none")  # as in notebook 07
ARMS = ("ablations", "careful", "controls", "frontier", "hacking", "lengths")
CURATION = {"cleaning": "clean", "one kind": "none"}  # group -> reference, as in notebook 01
SYSTEMS = ("qwen-rl", "tina", "tiny-r1", "tunix")
SEED_0 = "seed 0"  # the notebooks' own training logs are of this seed
CHECKED = 100  # prompts behind held_out_accuracy in the default recipe
LIVE_PROMPTS = 64  # the same in the live section of notebook 13
MIX = {"accuracy": 1.0, "think_format": 0.1, "repetition": 0.1}  # as in notebooks 05 and 13
TRAININGS = {  # panel -> column, as in notebook 10
    "accuracy on training prompts": "rewards/accuracy/mean",
    "entropy": "entropy",
    "completion length": "completions/mean_length",
    "KL from the start": "kl",
}
SFT = {"loss on replies": ["loss"], "share of tokens predicted": ["mean_token_accuracy"]}
Drawn = Iterator[tuple[str, Any, Any]]  # the figure's name without suffix, the figure, its rows


def one(draw: Callable[..., Any], *given: Any, **settings: Any) -> Callable[[str, Any], Drawn]:
    """A painter of a table that makes one figure, under the table's own name."""

    def paint(name: str, table: Any) -> Drawn:
        yield name, draw(table, *given, **settings), table

    return paint


def ladder(name: str, table: Any) -> Drawn:
    """The ladder; its title needs the paired differences in rises.csv."""
    comparisons = read("rises")
    yield name, ladder_plots.plot_ladder(table, comparisons=comparisons), table


def rises(name: str, table: Any) -> Drawn:
    """Changes from stage to stage; how many were asked stands in ladder.csv."""
    yield name, rise_plots.plot_rises(table, int(read("ladder")["n"].min())), table


def pass_at_k(name: str, table: Any) -> Drawn:
    """pass@k, every step checked where steps are known."""
    counted = "checked" if "checked" in set(table["counted"]) else "right"
    yield name, ladder_plots.plot_pass_at_k(table, counted), table


def styles(name: str, table: Any) -> Drawn:
    """Shares of the teachers' styles by stage, means over seeds."""
    yield name, styles_figure(table, asked=int(read("ladder")["n"].min())), table


def styles_figure(table: Any, asked: int) -> Any:
    """The figure of a table of styles, one row per stage and seed."""
    seeds = table["seed"].nunique() if "seed" in table else 1
    mean = table.groupby("stage", sort=False).mean(numeric_only=True).reset_index().fillna(0.0)
    parts = [part for part in MANNERS if part in mean]
    about = titles.about(asked, seeds, "questions, sampled", "in distribution")
    return plots.plot_shares(mean, "stage", parts, "share of sampled replies (%)", about=about)


def arms(name: str, table: Any) -> Drawn:
    """Paired differences of arms, as many figures as it takes: name, name_2, ..."""
    for number, groups in enumerate(arm_plots.ablation_pages(table), 1):
        figure = arm_plots.plot_ablations(table, groups=groups)
        # the first keeps the whole table, which notebooks and tests read
        rows = table if number == 1 else table[table["group"].isin(groups)]
        yield name if number == 1 else f"{name}_{number}", figure, rows


def algorithms(name: str, table: Any) -> Drawn:
    """Algorithms against their reference, and the map of what each signal buys."""
    mapped = table["group"] == signal_map.GROUP
    yield name, arm_plots.plot_ablations(table[~mapped]), table
    if mapped.any():
        yield "signal_map", signal_map.plot(table[mapped]), table[mapped]


def curation(name: str, table: Any) -> Drawn:
    """Differences to clean data, on questions that did not leak."""
    differences = tables.over_seeds(table, CURATION, "checked %")
    held_out = differences[differences["questions"] == "held out"]
    yield name, plots.plot_differences(held_out), table


def held_out_differences(name: str, table: Any) -> Drawn:
    """The differences that notebook 01 computes, on questions that did not leak."""
    yield name, plots.plot_differences(table[table["questions"] == "held out"]), table


def grpo(name: str, log: Any) -> Drawn:
    """The two figures of notebook 06: what is paid and wanted, and the state of the groups."""
    parts = [c for c in log if c.startswith("rewards/") and c.endswith("/mean")]
    panels = {"reward and its parts": ["reward", *parts]}
    panels["held-out accuracy, greedy"] = ["held_out_accuracy"]
    yield name, plots.plot_curves(log, panels, about=SEED_0, asked=CHECKED), log
    signs = {
        "standard deviation within groups": ["reward_std"],
        "zero-variance groups": ["frac_reward_zero_std"],
        "entropy": ["entropy"],
        "completion length": ["completions/mean_length"],
    }
    columns = ["step", *(column for columns in signs.values() for column in columns)]
    yield "grpo_groups", plots.plot_curves(log, signs, about=SEED_0), log[columns]


def algorithm(name: str, log: Any) -> Drawn:
    """The training of notebook 12."""
    panels = {
        "accuracy on training prompts": ["rewards/accuracy/mean"],
        "held-out accuracy, sampled": ["held_out_accuracy"],
        "completion length": ["completions/mean_length"],
        "the critic's loss": ["value_loss"],
    }
    panels = {title: names for title, names in panels.items() if names[0] in log}
    yield name, plots.plot_curves(log, panels, about=f"PPO, {SEED_0}", asked=CHECKED), log


def word_problems(name: str, table: Any) -> Drawn:
    """What is wrong in a real model's replies to word problems, by stage."""
    about = f"n {int(table['n'].min())} word problems, greedy"
    parts = list(operations.KINDS)
    label = "share of replies (%)"
    yield name, plots.plot_shares(table, "arm", parts, label, "operations", about), table


def hack_bench(name: str, table: Any) -> Drawn:
    """What the text of 05 explains, and the whole map of 13 in two parts."""
    yield name, reward_plots.plot_hack_bench(table, reward_plots.EXPLAINED, close=True), table
    for page, names in reward_plots.bench_pages(table).items():
        rows = table[table["mix"].isin(names)]
        yield page, reward_plots.plot_hack_bench(rows), rows


def model_group(name: str, table: Any) -> Drawn:
    """The group that notebook 05 shows: the first prompt of the table."""
    rows = table[table["prompt"] == table["prompt"].iloc[0]]
    told = {}
    for i, row in enumerate(rows.itertuples(), 1):
        manner = nanoworld.style_of(answers.parse(row.text).thought or "")
        told[f"{i} {manner}, {'right' if row.right else 'wrong'}"] = row.text
    compared = explorer.compare(told, MIX, answer=rows["answer"].iloc[0])
    yield name, reward_plots.plot_group(compared), table


def live_curves(name: str, table: Any) -> Drawn:
    """The two trainings of notebook 13's live section."""
    curves = live.Curves(lambda picture: None, int(table["step"].max()), LIVE_PROMPTS)
    for label, rows in table.groupby("run", sort=False):
        curves.runs[label] = [row.dropna().to_dict() for _, row in rows.iterrows()]
    yield name, curves.figure(), table


PAINTERS: dict[str, Callable[[str, Any], Drawn]] = {
    "ladder": ladder,
    "rises": rises,
    "by_steps": one(ladder_plots.plot_by_steps),
    "pass_at_k": pass_at_k,
    "voting": one(ladder_plots.plot_voting, BANDS_BY_LENGTH[:3]),
    "styles": styles,
    **dict.fromkeys((*ARMS, *SYSTEMS), arms),
    "ablations_curves": one(arm_plots.plot_trainings, TRAININGS, "128 completions a step"),
    "algorithms": algorithms,
    **dict.fromkeys(("curation", "curation_tuned"), curation),
    "curation_differences": held_out_differences,
    "frontier_steps": one(step_plots.plot_frontier),
    "lengths_steps": one(step_plots.plot_lengths),
    "base_training": one(
        plots.plot_curves,
        {"loss": ["loss"], "share of tokens predicted": ["mean_token_accuracy"]},
        about=SEED_0,
        log_scale=["loss"],
    ),
    "sft_stage1_training": one(plots.plot_curves, SFT, about=SEED_0, log_scale=list(SFT)[:1]),
    "sft_stage2_training": one(plots.plot_curves, SFT, about=SEED_0, log_scale=list(SFT)[:1]),
    "dpo_losses": one(
        plots.plot_lines, "margin", ["apo_zero", "sigmoid"], "margin of the log-ratios"
    ),
    "dpo_training": one(
        plots.plot_curves,
        {
            "loss": ["loss"],
            "beta x log-ratio": ["rewards/chosen", "rewards/rejected"],
            "pairs in the right order": ["rewards/accuracies"],
        },
        about=SEED_0,
    ),
    "grpo_training": grpo,
    "algorithm_training": algorithm,
    "live_curves": live_curves,
    "signal_training": one(
        plots.plot_curves,
        {"held-out accuracy, sampled": ["held_out_accuracy"], "right when drawn": ["right"]},
        about=SEED_0,
    ),
    "reward_parts": one(reward_plots.plot_group),
    "model_group": model_group,
    "reward_models": one(reward_plots.plot_judges),
    "hack_bench": hack_bench,
    "hack_bench_learned": one(reward_plots.plot_hack_bench),
    "hack_bench_steps": one(reward_plots.plot_hack_bench),
    "hacking_curves": one(reward_plots.plot_hacking, asked=CHECKED),
    "threads": one(threads.plot),
    "smollm2_ladder": one(ladder_plots.plot_ladder),
    "smollm2_shares": word_problems,
}


def read(name: str) -> Any:
    """A committed table as a data frame.

    Raises:
        CourseError: when it does not exist.
    """
    import pandas as pd

    path = FIGURES / f"{name}.csv"
    if not path.is_file():
        raise CourseError(f"no table {shown(path)}")
    return pd.read_csv(path, dtype={"arm": str, "threads": str, "answer": str})


def draw(name: str) -> Drawn:
    """The figures of a committed table.

    Raises:
        CourseError: when there is no such table, or nothing here draws it.
    """
    if name not in PAINTERS:
        raise CourseError(f"nothing draws {name!r}; known: {', '.join(PAINTERS)}")
    yield from PAINTERS[name](name, read(name))


def main(arguments: Sequence[str], folder: Path = FIGURES) -> int:
    """Draw these figures, or all whose tables exist; returns the exit status."""
    there = [name for name in PAINTERS if (FIGURES / f"{name}.csv").is_file()]
    bad = 0
    try:
        for name in arguments or there:
            for figure_name, figure, rows in draw(name):
                plots.save_picture(figure, folder / figure_name)
                if figure_name != name:  # a part: its rows have no file of their own yet
                    rows.to_csv(folder / f"{figure_name}.csv", index=False)
                for problem in slide.problems(figure):
                    bad = 1
                    print(f"{figure_name}: {problem}", file=sys.stderr)
                print(shown(folder / f"{figure_name}.png"))
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
