"""The shapes of the course's pictures, as SVG: one shape and one colour for each kind of thing.

A model is a hexagon, a file has a folded corner, a text has square corners, a number is a
pill, and what is done to them stands in a box with round corners. Colours are those of
Okabe and Ito, as in `trlm_utils.plots`; what a colour says, a shape or a sign says too.
Coordinates are pixels of a picture that is `WIDTH` wide.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from html import escape

from trlm_utils.files import CourseError
from trlm_utils.plots import COLOURS

WIDTH = 700
SIZE, SMALLEST, HEADLINE = 15, 14, 19  # font sizes
INK, QUIET, LINE = "#222222", "#555555", "#444444"
GREEDY, SAMPLED, GOOD, MODEL, NUMBER, TEXT, _ = COLOURS
BAD = "#666666"
ROLES = {  # what a line or a mark may stand for
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "good": GOOD,
    "bad": BAD,
    "number": NUMBER,
    "line": LINE,
}
FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
HEIGHT = 1.3  # of a line, in font sizes
ROOM = 6  # pixels at least between a text and the edge of its box

Box = tuple[float, float, float, float]  # left, top, width, height


def tint(colour: str, share: float = 0.28) -> str:
    """The colour mixed with white: so much of it as ``share`` says.

    >>> tint("#000000", 0.5)
    '#808080'
    """
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


@functools.cache
def _font(bold: bool) -> object:
    from pathlib import Path

    import matplotlib
    from matplotlib.ft2font import FT2Font

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name))
    font.set_size(100, 72)
    return font


def text_width(text: str, size: float = SIZE, bold: bool = False) -> float:
    """Width in pixels in DejaVu Sans, the widest font that a reader's browser may choose."""
    from matplotlib.ft2font import LoadFlags

    font = _font(bold)
    font.set_text(text, 0, flags=LoadFlags.NO_HINTING)  # type: ignore[attr-defined]
    return font.get_width_height()[0] / 64 * size / 100  # type: ignore[attr-defined]


def number(value: float) -> str:
    """A coordinate with at most one decimal.

    >>> number(12.0), number(0.25)
    ('12', '0.2')
    """
    return f"{value:.1f}".removesuffix(".0")


def words(
    text: str,
    x: float,
    y: float,
    *,
    size: float = SIZE,
    anchor: str = "start",
    bold: bool = False,
    colour: str = INK,
) -> str:
    """Lines of text; (x, y) is the baseline's start, middle or end (``anchor``) of the first.

    Raises:
        CourseError: when a line would leave the picture, or is too small.
    """
    if size < SMALLEST:
        raise CourseError(f"{text!r}: font size {size}; {SMALLEST} is the smallest")
    found = []
    for i, line in enumerate(text.split("\n")):
        width = text_width(line, size, bold)
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        if left < ROOM or left + width > WIDTH - ROOM:
            raise CourseError(f"{line!r} leaves the picture: shorten it or move it")
        weight = ' font-weight="bold"' if bold else ""
        found.append(
            f'<text x="{number(x)}" y="{number(y + i * size * HEIGHT)}" font-size="{size}" '
            f'text-anchor="{anchor}" fill="{colour}"{weight}>{escape(line)}</text>'
        )
    return "\n".join(found)


def label(text: str, box: Box, *, size: float = SIZE, bold: bool = False) -> str:
    """Lines of text in the middle of a box.

    Raises:
        CourseError: when they do not fit into it.
    """
    left, top, width, height = box
    lines = text.split("\n")
    widest = max(text_width(line, size, bold) for line in lines)
    if widest > width - 2 * ROOM or len(lines) * size * HEIGHT > height:
        need = f"{widest + 2 * ROOM:.0f} x {len(lines) * size * HEIGHT:.0f}"
        raise CourseError(f"{text!r} needs {need} pixels, its box has {width} x {height}")
    first = top + height / 2 - (len(lines) - 1) * size * HEIGHT / 2 + 0.35 * size
    return words(text, left + width / 2, first, size=size, anchor="middle", bold=bold)


def outline(kind: str, box: Box, dashed: bool = False, strong: bool = False) -> str:
    """The shape of a kind of thing: model, file, text, number, step, card or hollow."""
    left, top, width, height = box
    fill, stroke = {
        "model": (tint(MODEL, 0.35), MODEL),
        "file": ("#efefef", LINE),
        "text": (tint(TEXT), TEXT),
        "hollow": ("#ffffff", "#8a8a8a"),
        "number": (tint(NUMBER), NUMBER),
        "step": ("#ffffff", INK),
        "card": ("#ffffff", "#b5b5b5"),
    }[kind]
    stroke, thick = (INK, 4) if strong else (stroke, 2)
    style = f'fill="{fill}" stroke="{stroke}" stroke-width="{thick}"'
    style += ' stroke-dasharray="6 4"' if dashed else ""
    if kind == "model":
        cut = min(14, height / 3)
        points = [
            (left + cut, top),
            (left + width - cut, top),
            (left + width, top + height / 2),
            (left + width - cut, top + height),
            (left + cut, top + height),
            (left, top + height / 2),
        ]
        joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        return f'<polygon points="{joined}" {style}/>'
    if kind == "file":
        fold, right, bottom = 12, left + width, top + height
        edge = f"M{number(left)} {number(top)}H{number(right - fold)}L{number(right)} "
        edge += f"{number(top + fold)}V{number(bottom)}H{number(left)}Z"
        corner = f"M{number(right - fold)} {number(top)}V{number(top + fold)}H{number(right)}"
        return f'<path d="{edge}{corner}" {style} stroke-linejoin="round"/>'
    radius = {"number": height / 2, "step": 8, "card": 10}.get(kind, 0)
    place = f'x="{number(left)}" y="{number(top)}" width="{number(width)}"'
    return f'<rect {place} height="{number(height)}" rx="{number(radius)}" {style}/>'


def arrow(points: Sequence[tuple[float, float]], dashed: bool = False) -> str:
    """A line through the points with a head at its end."""
    (x1, y1), (x2, y2) = points[-2:]
    across, down = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    neck = (x2 - 8 * across, y2 - 8 * down)
    side = (5 * down, 5 * across)
    base = [(neck[0] + side[0], neck[1] + side[1]), (neck[0] - side[0], neck[1] - side[1])]
    head = " ".join(f"{number(x)},{number(y)}" for x, y in [(x2, y2), *base])
    return f'{line([*points[:-1], neck], dashed=dashed)}\n<polygon points="{head}" fill="{LINE}"/>'


def line(
    points: Sequence[tuple[float, float]],
    role: str = "line",
    dashed: bool = False,
    width: float = 2,
) -> str:
    """A line through points, in the colour of a role."""
    joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return (
        f'<polyline points="{joined}" fill="none" stroke="{ROLES[role]}" '
        f'stroke-width="{number(width)}" stroke-linejoin="round"{dash}/>'
    )


def mark(kind: str, x: float, y: float, role: str = "line", hollow: bool = False) -> str:
    """A sign around (x, y): check or cross; circle or square as in the figures."""
    if kind in ("check", "cross"):
        d = {"check": "M-8 0L-2 6L8 -7", "cross": "M-6 -6L6 6M6 -6L-6 6"}[kind]
        colour = {"check": GOOD, "cross": BAD}[kind]
        place = f'transform="translate({number(x)} {number(y)})"'
        return f'<path d="{d}" {place} fill="none" stroke="{colour}" stroke-width="3.5"/>'
    style = f'fill="{"#ffffff" if hollow else ROLES[role]}" stroke="{ROLES[role]}" stroke-width="2"'
    if kind == "circle":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="6" {style}/>'
    place = f'x="{number(x - 5.5)}" y="{number(y - 5.5)}"'
    return f'<rect {place} width="11" height="11" {style}/>'


def bar(value: float, x: float, y: float, length: float, thick: float, upright: bool) -> str:
    """A bar from a zero line at (x, y), ``length`` pixels for 1: good above zero, bad below."""
    size = abs(value) * length
    if upright:
        box = (x, y - size if value > 0 else y, thick, size)
    else:
        box = (x if value > 0 else x - size, y, size, thick)
    left, top, width, height = map(number, box)
    colour = GOOD if value > 0 else BAD
    return f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{colour}"/>'


def bracket(start: float, end: float, y: float, depth: float = 8) -> str:
    """A bracket that opens downwards (``depth`` above 0) or upwards, with a tip in its middle."""
    middle = (start + end) / 2
    tip = line([(middle, y), (middle, y - depth)])
    return line([(start, y + depth), (start, y), (end, y), (end, y + depth)]) + "\n" + tip


def token_row(
    tokens: Sequence[str], left: float, top: float, height: float, filled: Sequence[bool]
) -> tuple[str, Box]:
    """Tokens side by side, those that are ``filled`` in the colour of text; and their box."""
    found, x = [], left
    for token, full in zip(tokens, filled, strict=True):
        width = max(24, 2 * round((text_width(token) + 2 * ROOM + 1) / 2))
        box = (x, top, width, height)
        found += [outline("text" if full else "hollow", box), label(token, box)]
        x += width
    return "\n".join(found), (left, top, x - left, height)
