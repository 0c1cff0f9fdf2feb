"""The reward explorer: choose completions, move weights and settings, see what wins.

`compare` is the arithmetic, `reward_plots.plot_group` the picture, `Explorer` the controls
around both. Without a browser the first two show the same as the third.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trlm_utils.rewards import hack_bench, mixes, model_rewards, reward_plots

if TYPE_CHECKING:
    from ipywidgets import VBox

BENCH_PROBLEMS = 8  # enough for a verdict after every move


def compare(
    completions: dict[str, str],
    weights: mixes.Weights,
    tokenizer: Any = None,
    models: model_rewards.Models | None = None,
    **row: Any,
) -> Any:
    """What a mix pays each completion of one group, part by part.

    Args:
        completions: name -> text, at least two.
        weights: the mix (see `trlm_utils.rewards.library`).
        tokenizer: with it lengths are tokens, else words.
        models: for rewards that ask a model.
        row: the columns of the prompt's row, as ``answer``; ``prompts`` where a model is
            asked.

    Returns:
        A frame with completion, one column per part (weighted), total, advantage (not
        divided by the spread, as in Dr. GRPO).

    Raises:
        ValueError: for fewer than two completions, or a mix that cannot be used.
    """
    import pandas as pd

    texts = list(completions.values())
    columns: dict[str, Any] = {name: [value] * len(texts) for name, value in row.items()}
    if tokenizer is not None:
        columns["completion_ids"] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    functions, values = mixes.choose(weights)
    scored = mixes.score(weights, texts, models, **columns)
    table = pd.DataFrame({"completion": list(completions)})
    for function, weight in zip(functions, values, strict=True):
        table[function.__name__] = [weight * part[function.__name__] for part in scored]
    totals = [part["total"] for part in scored]
    return table.assign(total=totals, advantage=mixes.advantages(totals, scale=False))


def winner(table: Any) -> str:
    """Which completions the group is moved towards most, in one line."""
    best = table["advantage"].max()
    if best < hack_bench.SMALLEST:
        return "all are paid the same: nothing would be learned from this group"
    names = table.loc[table["advantage"] >= best - hack_bench.SMALLEST, "completion"]
    return f"moved towards most: {'; '.join(names)}"


class Explorer:
    """Widgets around `compare`: ``Explorer(...).view`` is what a notebook shows.

    Moving a slider, a setting or the selection draws the picture anew. The arguments
    are those of `compare`; ``weights`` is what the sliders start from.
    """

    def __init__(
        self,
        completions: dict[str, str],
        weights: mixes.Weights,
        tokenizer: Any = None,
        models: model_rewards.Models | None = None,
        **row: Any,
    ):
        import ipywidgets as widgets

        compare(completions, weights, tokenizer, models, **row)  # what cannot work says so here
        self.completions, self.tokenizer, self.row = completions, tokenizer, row
        self.models = models
        self.mixes = {"this mix": weights, **mixes.MIXES}
        self.table: Any = None
        self.sliders: dict[str, Any] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        wide = widgets.Layout(width="98%")
        self.group = widgets.SelectMultiple(
            options=list(completions),
            value=list(completions),
            rows=min(6, len(completions)),
            description="group",
            layout=wide,
        )
        self.mix = widgets.Dropdown(options=list(self.mixes), description="start from")
        self.more = widgets.Dropdown(description="add")
        self.rows = widgets.VBox()
        self.picture = widgets.Image(format="png", layout=wide)
        self.message = widgets.HTML()
        self.group.observe(lambda _: self.draw(), names="value")
        self.mix.observe(lambda change: self.start_from(self.mixes[change["new"]]), names="value")
        self.more.observe(self._add, names="value")
        self.start_from(weights)

    @property
    def view(self) -> VBox:
        """Everything in one column: selection, sliders, verdict, picture."""
        import ipywidgets as widgets

        choices = widgets.HBox([self.mix, self.more])
        return widgets.VBox([self.group, choices, self.rows, self.message, self.picture])

    @property
    def weights(self) -> mixes.Weights:
        """The mix as the controls stand, as a recipe would write it."""
        return {
            name: {"weight": slider.value}
            | {setting: widget.value for setting, widget in self.settings[name].items()}
            for name, slider in self.sliders.items()
        }

    def start_from(self, weights: mixes.Weights) -> None:
        """Set the controls to a mix."""
        self.sliders, self.settings = {}, {}
        for name, given in mixes.expand(weights).items():
            own = dict(given) if isinstance(given, dict) else {"weight": given}
            self._control(name, own.pop("weight"), own)
        self._lay_out()

    def draw(self) -> None:
        """Compute the table, the picture and the message from the controls."""
        chosen = {name: self.completions[name] for name in self.group.value}
        if len(chosen) < 2:
            self.message.value = "choose at least two completions: rewards are compared in a group"
            return
        try:
            self.table = compare(chosen, self.weights, self.tokenizer, self.models, **self.row)
        except ValueError as error:  # settings that exclude each other
            self.message.value = html.escape(str(error))
            return
        file = io.BytesIO()
        reward_plots.plot_group(self.table).savefig(file, format="png", dpi=80)
        self.picture.value = file.getvalue()
        found = hack_bench.totals(self.weights, BENCH_PROBLEMS, self.models)
        bench = hack_bench.verdict("this mix", found)
        self.message.value = f"<b>{html.escape(winner(self.table))}</b><br>{html.escape(bench)}"

    def _add(self, change: dict[str, Any]) -> None:
        if change["new"] in mixes.REWARDS:
            self._control(change["new"], 1.0, {})
            self._lay_out()

    def _control(self, name: str, weight: float, given: dict[str, Any]) -> None:
        """A slider for the weight and a field for each setting that is a number."""
        import ipywidgets as widgets

        self.sliders[name] = widgets.FloatSlider(
            value=weight,
            min=min(-3.0, weight),
            max=max(3.0, weight),
            step=0.1,
            description=name,
            continuous_update=False,
            style={"description_width": "10em"},
            layout=widgets.Layout(width="30em"),
        )
        self.settings[name] = {
            setting: _field(setting, given.get(setting, default))
            for setting, default in mixes.settings_of(mixes.reward(name)).items()
            if isinstance(default, int | float) and not isinstance(default, bool)
        }
        for widget in (self.sliders[name], *self.settings[name].values()):
            widget.observe(lambda _: self.draw(), names="value")

    def _lay_out(self) -> None:
        import ipywidgets as widgets

        self.rows.children = [
            widgets.HBox([slider, *self.settings[name].values()])
            for name, slider in self.sliders.items()
        ]
        rest = [
            name
            for name in mixes.REWARDS
            if name not in self.sliders and mixes.can_score({name: 1.0}, self.models)
        ]
        self.more.options = ["another reward", *rest]
        self.draw()


def _field(name: str, value: Any) -> Any:
    import ipywidgets as widgets

    kind: Callable[..., Any]
    if isinstance(value, int):
        kind, least = widgets.BoundedIntText, 1
    else:
        kind, least = widgets.BoundedFloatText, 1e-4
    layout = widgets.Layout(width="14em")
    return kind(value=value, min=least, max=1e5, description=name, layout=layout)
