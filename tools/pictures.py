"""Render the pictures of the notebooks: from figures/pictures/<name>.yaml to <name>.svg.

    python -m tools.pictures            # all
    python -m tools.pictures grpo_loop  # one

A source has a ``title``, the ``alt`` text, a ``height`` (the width is 700) and ``draw``, a
list of elements. An element is a mapping; its first key says what it is (`ELEMENTS`). Some
have an ``id``, by which arrows find them. A source may name ``parts``: besides the whole it is
then rendered once for each part, with the elements of the others pale (<name>-<part>.svg).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tools import shapes
from trlm_utils.files import PROJECT_ROOT, CourseError, shown, write_text

PICTURES = PROJECT_ROOT / "figures" / "pictures"
KEYS = {"title", "alt", "height", "draw", "parts"}
BOXES = ("model", "file", "text", "number", "step", "card", "hollow")
PALE = 0.3  # opacity of parts that are not lit
Element = dict[str, Any]
Places = dict[str, shapes.Box]


def read(path: Path) -> dict[str, Any]:
    """A picture's source.

    Raises:
        CourseError: when a key is missing or unknown.
    """
    import yaml

    source = yaml.safe_load(path.read_text(encoding="utf-8"))
    wrong = (KEYS - {"parts"} - set(source)) | (set(source) - KEYS)
    if wrong:
        raise CourseError(f"{shown(path)}: missing or unknown: {', '.join(sorted(wrong))}")
    return source


def alt_text(source: dict[str, Any], part: str = "") -> str:
    """What the picture shows, for those who do not see it; as the notebooks say it."""
    return source["alt"].strip() + (f" Lit: {part}." if part else "")


def render(source: dict[str, Any], part: str = "") -> str:
    """A picture as SVG.

    Args:
        source: see `read`.
        part: the part to light; empty for the whole.

    Raises:
        CourseError: when an element cannot be drawn, or its text does not fit.
    """
    width, height = shapes.WIDTH, source["height"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="{shapes.FONT}">',
        f"<title>{escape(source['title'])}</title>",
        f"<desc>{escape(alt_text(source, part))}</desc>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        shapes.words(source["title"], 22, 31, size=shapes.HEADLINE, bold=True),
    ]
    places: Places = {}
    for element in source["draw"]:
        drawn = _drawn(element, places, lit=bool(part) and element.get("part") == part)
        pale = part and element.get("part", part) != part
        lines.append(f'<g opacity="{PALE}">\n{drawn}\n</g>' if pale else drawn)
    return "\n".join([*lines, "</svg>", ""])


def _drawn(element: Element, places: Places, lit: bool) -> str:
    kind = next(iter(element))
    options = {k: v for k, v in element.items() if k not in (kind, "id", "part")}
    try:
        if kind in BOXES:
            drawn, box = _box(kind, element[kind], lit=lit, **options)
        elif kind == "arrow":
            return _arrow(element[kind], places, **options)
        else:
            drawn, box = ELEMENTS[kind](element[kind], **options)
    except (KeyError, TypeError) as error:
        raise CourseError(f"cannot draw {element}: {error}") from None
    if "id" in element and box:
        places[element["id"]] = box
    return drawn


def _box(
    kind: str,
    text: str,
    at: Sequence[float],
    lit: bool = False,
    size: float = shapes.SIZE,
    bold: bool = False,
    dashed: bool = False,
) -> tuple[str, shapes.Box]:
    """A shape with its text in the middle; a card has it at its top, on the left."""
    box = (at[0], at[1], at[2], at[3])
    drawn = shapes.outline(kind, box, dashed, strong=lit and kind == "card")
    if kind == "card":
        return f"{drawn}\n{shapes.words(text, at[0] + 12, at[1] + 24, bold=True)}", box
    return f"{drawn}\n{shapes.label(text, box, size=size, bold=bold)}" if text else drawn, box


def _arrow(ends: str | Sequence[Any], places: Places, dashed: bool = False) -> str:
    """An arrow from one box to another ("a > b"), or through given points."""
    if not isinstance(ends, str):
        return shapes.arrow([(x, y) for x, y in ends], dashed)
    start, end = (places[name.strip()] for name in ends.split(">"))
    return shapes.arrow(between(start, end), dashed)


def between(start: shapes.Box, end: shapes.Box, gap: float = 3) -> list[tuple[float, float]]:
    """The points of an arrow from box to box: straight if they overlap, else with two bends."""
    upright = start[0] < end[0] + end[2] and end[0] < start[0] + start[2]
    turn: Callable[[Any], Any] = (lambda p: p[::-1]) if upright else (lambda p: p)
    (x1, y1), (w1, h1) = turn(start[:2]), turn(start[2:])
    (x2, y2), (w2, h2) = turn(end[:2]), turn(end[2:])
    forward = x1 < x2
    first, last = (x1 + w1 + gap, x2 - gap) if forward else (x1 - gap, x2 + w2 + gap)
    low, high = max(y1, y2), min(y1 + h1, y2 + h2)
    if low < high:
        points = [(first, (low + high) / 2), (last, (low + high) / 2)]
    else:
        middle, (a, b) = (first + last) / 2, (y1 + h1 / 2, y2 + h2 / 2)
        points = [(first, a), (middle, a), (middle, b), (last, b)]
    return [turn(point) for point in points]


def _words(text: str, at: Sequence[float], quiet: bool = False, **style: Any) -> tuple[str, None]:
    colour = shapes.QUIET if quiet else shapes.INK
    return shapes.words(text, *at, colour=colour, **style), None


def _tokens(
    tokens: Sequence[str], at: Sequence[float], filled: Sequence[int] | bool = True, tall: int = 32
) -> tuple[str, shapes.Box]:
    full = [filled] * len(tokens) if isinstance(filled, bool) else [bool(f) for f in filled]
    return shapes.token_row([str(t) for t in tokens], *at, tall, full)


def _bar(
    value: float,
    at: Sequence[float],
    length: float,
    thick: float = 18,
    upright: bool = False,
    said: str = "",
) -> tuple[str, None]:
    """A bar, and its value (or what is ``said`` in its place) beyond its end."""
    x, y = at
    text, end = said or f"{value:+.2f}", value * length
    if upright:
        place = (x + thick / 2, y - end - 6 if value > 0 else y - end + 17)
        beside = shapes.words(text, *place, anchor="middle")
    else:
        place = (x + end + (7 if value > 0 else -7), y + thick / 2 + 5)
        beside = shapes.words(text, *place, anchor="start" if value > 0 else "end")
    return f"{shapes.bar(value, x, y, length, thick, upright)}\n{beside}", None


def _bracket(
    text: str, x: Sequence[float], y: float, depth: float = 8, **style: Any
) -> tuple[str, None]:
    """A bracket from x[0] to x[1], with a text in its middle."""
    below = y - depth + (18 if depth < 0 else -6)
    told = shapes.words(text, sum(x) / 2, below, anchor="middle", **style)
    return f"{shapes.bracket(*x, y, depth)}\n{told}", None


def _line(points: Sequence[Sequence[float]], **style: Any) -> tuple[str, None]:
    return shapes.line([(x, y) for x, y in points], **style), None


def _mark(kind: str, at: Sequence[float], **style: Any) -> tuple[str, None]:
    return shapes.mark(kind, *at, **style), None


ELEMENTS: dict[str, Callable[..., tuple[str, shapes.Box | None]]] = {
    "words": _words,
    "tokens": _tokens,
    "bar": _bar,
    "bracket": _bracket,
    "line": _line,
    "mark": _mark,
}


def pictures(names: Sequence[str] = ()) -> dict[str, str]:
    """File name -> SVG of all pictures, or of those named.

    Raises:
        CourseError: when there is no such source, or it cannot be rendered; says which.
    """
    found = {}
    paths = [PICTURES / f"{n}.yaml" for n in names] or sorted(PICTURES.glob("*.yaml"))
    for path in paths:
        if not path.is_file():
            raise CourseError(f"no source {shown(path)}")
        try:
            source = read(path)
            for part in ["", *source.get("parts", [])]:
                file = f"{path.stem}-{part}.svg" if part else f"{path.stem}.svg"
                found[file] = render(source, part)
        except CourseError as error:
            raise CourseError(f"{path.name}: {error}") from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures")
    parser.add_argument("names", nargs="*", help="sources without their ending; empty: all")
    try:
        for name, text in pictures(parser.parse_args(arguments).names).items():
            write_text(PICTURES / name, text)
            print(shown(PICTURES / name))
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
