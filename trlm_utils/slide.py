"""How a figure looks on a slide of 1280 x 720 pixels: its size, its text, its title, its check.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart. All drawing
functions get their panels, legend and title here, so that one test can hold every figure to
`problems`: 16:9, a title, and no text below `SMALLEST` pixels.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"
SIZE = (12.8, 7.2)  # inches: 1280 x 720 pixels at 100 dots per inch
PICTURE = 640  # height in pixels that a figure has on a slide, below the section's name
SMALLEST = 18  # pixels of the smallest text there, readable from the last row
TEXT, TITLE = 15.0, 18.0  # points; 15 points are 18.5 pixels on a slide
LINE = 78  # characters of a title that fit side by side
STYLE = {
    "figure.figsize": SIZE,
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "figure.labelsize": TEXT,
    "figure.titlesize": TITLE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.6,
    "lines.markersize": 8,
    "svg.hashsalt": "trlm",  # fixed ids, so that equal figures give equal files
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.08,
}
ACROSS = {1: 1, 2: 2, 3: 3, 4: 2}  # panels side by side; more than four: three


def make_panels(number: int, across: int = 0, **settings: Any) -> tuple[Any, list[Any]]:
    """A figure of a slide's shape with this many panels, and the panels in reading order.

    Args:
        across: panels side by side; 0 chooses.
        settings: of ``pyplot.subplots``, as ``sharey``.
    """
    import matplotlib.pyplot as plt

    across = across or ACROSS.get(number, 3)
    down = -(-number // across)
    figure, axes = plt.subplots(down, across, figsize=SIZE, squeeze=False, **settings)
    for axis in axes.flat[number:]:
        axis.axis("off")
    for axis in axes.flat[max(0, number - across) : number]:  # the lowest of each column
        axis.tick_params(labelbottom=True)
    return figure, list(axes.flat[:number])


def label_lowest(axes: Sequence[Any], text: str) -> None:
    """Name the horizontal axis of the lowest row of panels (`make_panels`)."""
    for axis in axes[-min(len(axes), ACROSS.get(len(axes), 3)) :]:
        axis.set_xlabel(text)


def put_title(figure: Any, message: str, about: str = "") -> None:
    """The figure's message over it, and below that, smaller, what it stands on (n, seeds)."""
    lines, below = _wrap(message, LINE), _wrap(about, LINE + 20)
    height = 72 * figure.get_size_inches()[1]  # in points
    top = 1 - 8 / height
    middle = top - 1.3 * TITLE * len(lines) / height
    style = {"ha": "left", "va": "top", "linespacing": 1.15}
    figure.suptitle("\n".join(lines), x=0.012, y=top, weight="bold", **style)
    if below:
        figure.text(0.012, middle, "\n".join(below), color="#444444", size=TEXT, **style)
    end = middle - (1.3 * TEXT * len(below) + 4) / height
    figure.get_layout_engine().set(rect=(0, 0, 1, end))  # the panels stay below


def _wrap(text: str, characters: int) -> list[str]:
    """Lines of at most this length; a number and its % stay together."""
    return textwrap.wrap(text.replace(" %", "\N{NO-BREAK SPACE}%"), characters)


def put_legend(figure: Any, axes: Sequence[Any], more: dict[str, Any] | None = None) -> None:
    """One legend for all panels, below them, so that it covers no curve.

    Args:
        more: label -> handle of further entries.
    """
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found |= more or {}
    if not found:
        return
    in_a_row = sum(map(len, found)) + 7 * len(found) <= 104  # characters, handles included
    columns = len(found) if in_a_row else max(1, 104 // (max(map(len, found)) + 6))
    figure.legend(
        list(found.values()),
        list(found),
        frameon=False,
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def _texts(figure: Any) -> list[Any]:
    """Every text of a figure that is drawn."""
    from matplotlib.text import Text

    figure.draw_without_rendering()  # places ticks and their labels
    hidden: set[int] = set()
    for axis in figure.axes:
        inside = [*axis.get_xticklabels(), *axis.get_yticklabels()]
        kept = {id(label) for name in "xy" for label in _tick_labels(axis, name)}
        everything = inside if axis.axison else axis.findobj(Text)
        hidden |= {id(text) for text in everything} - (kept if axis.axison else set())
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def _tick_labels(axis: Any, name: str) -> list[Any]:
    """The labels along "x" or "y" that are drawn: those of ticks within the limits."""
    low, high = sorted(getattr(axis, f"get_{name}lim")())
    return [
        label
        for label in getattr(axis, f"get_{name}ticklabels")()
        if label.get_visible()
        and label.get_text().strip()
        and low <= label.get_position()["xy".index(name)] <= high
    ]


def smallest_text_px(figure: Any) -> float:
    """Height in pixels of a figure's smallest text, where the figure fills a slide's picture.

    A slide has 1280 x 720 pixels, a picture on it at most `PICTURE` of them in height and as
    many in width as 16:9 leaves.
    """
    width, height = figure.get_size_inches()
    scale = min(PICTURE * SIZE[0] / SIZE[1] / width, PICTURE / height) / 72
    return scale * min((text.get_fontsize() for text in _texts(figure)), default=float("inf"))


def problems(figure: Any) -> list[str]:
    """What keeps a figure from being shown in a room, one line each; empty if nothing does."""
    found = []
    width, height = figure.get_size_inches()
    if abs(width / height - 16 / 9) > 0.01:
        found.append(f"{width:g} x {height:g} inches are not 16:9")
    if (size := smallest_text_px(figure)) < SMALLEST:
        found.append(f"text of {size:.1f} pixels on a slide; {SMALLEST} are needed")
    if not figure.get_suptitle().strip():
        found.append("no title")
    if any(axis.get_legend() for axis in figure.axes):
        found.append("a legend inside a panel, where curves are")
    page = figure.bbox
    for text in _texts(figure):
        box = text.get_window_extent()
        if box.x0 < page.x0 - 1 or box.y0 < page.y0 - 1 or box.x1 > page.x1 + 1:
            found.append(f"beyond the edge: {text.get_text()!r}")
    for axis in figure.axes:
        if axis.axison and (names := _overlapping(axis)):
            found.append(f"labels over each other: {names}")
    return found


def _overlapping(axis: Any) -> str:
    """The first two tick labels of an axis that cover each other; "" if none do."""
    for name in "xy":
        # boxes around slanted text overlap by nature
        seen = [label for label in _tick_labels(axis, name) if label.get_rotation() % 90 == 0]
        for one, other in itertools.pairwise(seen):
            if one.get_window_extent().overlaps(other.get_window_extent()):
                return f"{one.get_text()!r}, {other.get_text()!r}"
    return ""
