"""Change a weight, retrain, watch: curves that move while a training runs.

`Curves` follows trainings with a trainer callback and draws all of them into one picture;
`Bench` adds the controls, a slider for each weight and a button. Without a browser the
picture that the last step drew stays, as any output of a notebook does.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from trlm_utils import slide

PANELS = {
    "reward": "what is paid, per completion",
    "held_out_accuracy": "what is wanted: accuracy on held-out prompts",
}
OFTEN = 0.5  # seconds between two drawings; a drawing takes about a fifth of a second
Show = Callable[[bytes], None]


class Curves:
    """The curves of one training after another, redrawn while the last one runs.

    Args:
        show: is given each new picture (PNG), e.g. to put it into a widget.
        steps: of a training, the length of the axis.
        asked: number of held-out prompts behind the accuracy.
    """

    def __init__(self, show: Show, steps: int, asked: int):
        self.show, self.steps, self.asked = show, steps, asked
        self.runs: dict[str, list[dict[str, float]]] = {}
        self.drawn = 0.0

    def follow(self, label: str) -> Any:
        """A callback that adds the log of a trainer as a run with this label, or replaces it."""
        from transformers import TrainerCallback

        curves = self
        self.runs.pop(label, None)
        self.runs[label] = []

        class Follow(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):  # noqa: ANN001
                curves.update(label, state.log_history)

            def on_train_end(self, args, state, control, **kwargs):  # noqa: ANN001
                curves.update(label, state.log_history, at_once=True)

        return Follow()

    def update(self, label: str, log: list[dict[str, float]], at_once: bool = False) -> None:
        """Take over a trainer's log, and draw unless this was done a moment ago."""
        self.runs[label] = [row for row in log if set(PANELS) & set(row)]
        if at_once or time.monotonic() - self.drawn > OFTEN:
            file = io.BytesIO()
            self.figure().savefig(file, format="png", dpi=100)
            self.show(file.getvalue())
            self.drawn = time.monotonic()

    def figure(self) -> Any:
        """What is paid and what is wanted over the steps; one colour a run, the last one thick."""
        import matplotlib.pyplot as plt

        with plt.rc_context(slide.STYLE):
            figure, axes = slide.make_panels(2)
            for axis, (column, told) in zip(axes, PANELS.items(), strict=True):
                for number, (label, log) in enumerate(self.runs.items()):
                    points = [(row["step"], row[column]) for row in log if column in row]
                    last = number == len(self.runs) - 1
                    axis.plot(
                        *(zip(*points, strict=True) if points else ((), ())),
                        color=slide.COLOURS[number % len(slide.COLOURS)],
                        marker=slide.MARKERS[number % len(slide.MARKERS)],
                        markevery=1 if column == "held_out_accuracy" else max(1, len(points) // 8),
                        linewidth=3.2 if last else 1.6,
                        label=label,
                    )
                axis.set(title=told, xlabel="step", xlim=(0, self.steps))
            axes[1].set_ylim(-0.03, 1.03)
            slide.put_title(figure, self.message(), f"one training each, {self.asked} questions")
            slide.put_legend(figure, axes)
        plt.close(figure)
        return figure

    def table(self) -> Any:
        """All curves as a data frame: run, step, and the columns of `PANELS`."""
        import pandas as pd

        columns = ["step", *PANELS]
        rows = [
            {"run": label, **{name: row.get(name) for name in columns}}
            for label, log in self.runs.items()
            for row in log
        ]
        return pd.DataFrame(rows, columns=["run", *columns])

    def message(self) -> str:
        """What the last run did so far: from its first to its last values."""
        label, log = list(self.runs.items())[-1]
        said = []
        for column, what in (("reward", "reward"), ("held_out_accuracy", "held-out accuracy")):
            found = [row[column] for row in log if column in row]
            if found:
                said.append(f"{what} {found[0]:.2f} to {found[-1]:.2f}")
        return f"{label}: {', '.join(said) or 'before the first step'}"


def in_place() -> Show:
    """Make a place for a picture in a notebook's output; returns what puts one there."""
    from IPython.display import HTML, Image, display

    handle = display(HTML(""), display_id=True)
    return lambda png: handle.update(Image(data=png))


class Bench:
    """Sliders for the weights of a mix, a button that trains with them, and the curves.

    Args:
        train: trains from the same start each time; is given the weights and a callback for
            the trainer (`Curves.follow`).
        weights: the mix that the sliders begin with.
        curves: where its trainings are drawn, beside those that were drawn there before.
    """

    def __init__(
        self,
        train: Callable[[dict[str, float], Any], None],
        weights: dict[str, float],
        curves: Curves,
    ):
        import ipywidgets as widgets

        self.train, self.curves = train, curves
        self.sliders = {
            name: widgets.FloatSlider(
                value=weight,
                min=min(-2.0, weight),
                max=max(2.0, weight),
                step=0.1,
                description=name,
                style={"description_width": "10em"},
            )
            for name, weight in weights.items()
        }
        self.button = widgets.Button(description="train", button_style="primary")
        self.message = widgets.HTML()
        self.picture = widgets.Image(format="png", layout=widgets.Layout(width="98%"))
        self.button.on_click(lambda _: self.run())

    @property
    def view(self) -> Any:
        """Sliders, button, message and picture, one below the other."""
        import ipywidgets as widgets

        controls = widgets.HBox([self.button, self.message])
        return widgets.VBox([*self.sliders.values(), controls, self.picture])

    @property
    def weights(self) -> dict[str, float]:
        """The mix that the sliders are set to; a reward of weight 0 has no effect."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def run(self) -> None:
        """Train with the weights of the sliders; an error is told beside the button."""
        self.curves.show = lambda png: setattr(self.picture, "value", png)
        label = ", ".join(f"{name} {value:g}" for name, value in self.weights.items() if value)
        self.button.disabled, self.message.value = True, "training ..."
        began = time.monotonic()
        try:
            self.train(self.weights, self.curves.follow(label or "nothing is paid"))
            self.message.value = f"done in {time.monotonic() - began:.0f} s"
        except Exception as error:  # in a widget's callback an exception would not be seen
            self.message.value = f"{type(error).__name__}: {error}"
        finally:
            self.button.disabled = False
