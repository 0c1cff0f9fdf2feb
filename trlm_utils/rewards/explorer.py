"""The reward explorer: choose completions, change weights and settings, see the advantages.

`compare` computes the table, `reward_plots.plot_group` draws it, and `Explorer` adds the
widgets. Without a browser the first two show the same content as the third.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trlm_utils.rewards import hack_bench, mixes, model_rewards, reward_plots

if TYPE_CHECKING:
    from ipywidgets import VBox

BENCH_PROBLEMS = 8  # problems of the hack bench: few, as it runs after every change


def compare(
    completions: dict[str, str],
    weights: mixes.Weights,
    tokenizer: Any = None,
    models: model_rewards.Models | None = None,
    **row: Any,
) -> Any:
    """Rewards and advantages of the completions of one group under a mix of rewards.

    Args:
        completions: name -> text, at least two.
        weights: the mix (see `trlm_utils.rewards.mixes`).
        tokenizer: if given, lengths are in tokens, else in words.
        models: models for rewards that call one.
        row: the columns of the prompt's row, such as ``answer``; ``prompts`` for rewards
            that call a model.

    Returns:
        A frame with completion, one column per reward (weighted), total, and advantage (not
        divided by the standard deviation, as in Dr. GRPO).

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
    """One line that names the completions with the largest advantage."""
    best = table["advantage"].max()
    if best < hack_bench.SMALLEST:
        return "all are paid the same: nothing would be learned from this group"
    names = table.loc[table["advantage"] >= best - hack_bench.SMALLEST, "completion"]
    return f"moved towards most: {'; '.join(names)}"


class Explorer:
    """Widgets around `compare`: a notebook shows ``Explorer(...).view``.

    Every change of a slider, a setting or the selection redraws the figure. The arguments
    are those of `compare`; ``weights`` are the initial values of the sliders.
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

        compare(completions, weights, tokenizer, models, **row)  # raises on invalid arguments
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
        """All widgets in one column: selection, sliders, verdict, figure."""
        import ipywidgets as widgets

        choices = widgets.HBox([self.mix, self.more])
        return widgets.VBox([self.group, choices, self.rows, self.message, self.picture])

    @property
    def weights(self) -> mixes.Weights:
        """The mix that the controls are set to, in the form that a recipe uses."""
        return {
            name: {"weight": slider.value}
            | {setting: widget.value for setting, widget in self.settings[name].items()}
            for name, slider in self.sliders.items()
        }

    def start_from(self, weights: mixes.Weights) -> None:
        """Set the controls to the values of a mix."""
        self.sliders, self.settings = {}, {}
        for name, given in mixes.expand(weights).items():
            own = dict(given) if isinstance(given, dict) else {"weight": given}
            self._control(name, own.pop("weight"), own)
        self._lay_out()

    def draw(self) -> None:
        """Update the table, the figure and the message from the controls."""
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
