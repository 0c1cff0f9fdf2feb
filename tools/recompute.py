"""Recompute intervals of recorded tables with Student's t; needed once per table.

    python -m tools.recompute

Some tables in ``figures/`` come from long runs that were recorded before `stats.weighted_t`
existed. Their intervals over seeds use the normal quantile 1.96. How they are recomputed
depends on what was recorded:

- ``rises``: ``ladder.csv`` has every seed's accuracies, so the variance of the differences
  between seeds is known. The rest of a recorded half width is the error from the questions.
- ``ablations``, ``algorithms``, ``hacking``: only pooled numbers were recorded. The two parts
  of the variance are unknown, so the half width is widened as if all variance came from the
  seeds, by t / 1.96 = 2.20 with three seeds. This is the largest factor that can be needed:
  such intervals may be too wide, never too narrow.
- ``ladder``, ``by_steps``, ``pass_at_k``: their rows are of single seeds and stay the same.
  Only the figures, which pool them (`plots.over_seeds`), are drawn again.

A table with a column ``df`` already uses Student's t and is not changed. Tables with one seed
have intervals over questions only and stay. ``compare`` cannot be drawn again, because the
ladders of the other recipes were not recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trlm_utils import plots, stats
from trlm_utils.files import PROJECT_ROOT

FIGURES = PROJECT_ROOT / "figures"
ARMS = ("ablations", "algorithms", "hacking")
DRAWN: dict[str, Callable[[Any], Any]] = {
    "rises": plots.plot_rises,
    "ladder": plots.plot_ladder,
    "by_steps": plots.plot_by_steps,
    "pass_at_k": plots.plot_pass_at_k,
    **dict.fromkeys(ARMS, plots.plot_ablations),
}


def rises(table: Any, ladder: Any) -> Any:
    """Differences between stages, with the variance between seeds computed from the ladder.

    Args:
        table: from, to, band, decoding, difference, low, high, seeds.
        ladder: stage, seed, band, decoding, accuracy, n.
    """
    keys = ["band", "decoding", "stage", "seed"]
    accuracy = ladder.set_index(keys)["accuracy"].sort_index()
    rows = []
    for row in table.to_dict("records"):
        ends = [accuracy[row["band"], row["decoding"], row[end]] for end in ("to", "from")]
        spread = stats.standard_error(list(ends[0] - ends[1])) ** 2
        asked = max(0.0, ((row["high"] - row["low"]) / 2 / stats.Z) ** 2 - spread)
        questions = int(ladder.loc[ladder["band"] == row["band"], "n"].min())
        error, quantile, df = stats.weighted_t(spread, asked, row["seeds"], questions)
        low, high = (row["difference"] + sign * quantile * error for sign in (-1, 1))
        rows.append(row | {"low": max(-1.0, low), "high": min(1.0, high), "df": df})
    return type(table)(rows)


def arms(table: Any) -> Any:
    """Accuracies and differences of arms, with intervals widened as if only seeds varied.

    Args:
        table: a table of `trlm_utils.evaluation.arms.table`; all rows have as many seeds.
    """
    found = table.copy()
    for name, bottom, prefix in (("accuracy", 0.0, ""), ("difference", -1.0, "difference_")):
        widened = table["seeds"].map(lambda k: stats.t_quantile(k - 1) / stats.Z)
        for end in ("low", "high"):
            reach = widened * (table[f"{prefix}{end}"] - table[name])
            found[f"{prefix}{end}"] = (table[name] + reach).clip(bottom, 1.0)
        found[f"{prefix}df"] = (table["seeds"] - 1).where(table[name].notna())
    return found


def recompute(folder: Path) -> list[str]:
    """Rewrite the tables that need it and redraw their figures; returns the tables' names."""
    import pandas as pd

    tables = {name: pd.read_csv(folder / f"{name}.csv", dtype={"arm": str}) for name in DRAWN}
    old = [name for name in ("rises", *ARMS) if "df" not in tables[name]]
    if "rises" in old:
        tables["rises"] = rises(tables["rises"], tables["ladder"])
    for name in set(old) & set(ARMS):
        tables[name] = arms(tables[name])
    for name, draw in DRAWN.items():
        plots.save_figure(draw(tables[name]), folder / name, tables[name])
    return old


if __name__ == "__main__":
    print("computed again:", ", ".join(recompute(FIGURES)) or "nothing")
    sys.exit(0)
