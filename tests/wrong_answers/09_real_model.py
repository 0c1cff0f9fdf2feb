"""Answers that readers give to the exercises of 09, each wrong for the reason in its name."""

import math
import re


def changes__all_that_changed(before, after):
    changed = sum(b != a for b, a in zip(before, after, strict=True))
    return changed, changed, 100 * changed / len(before)


def changes__a_share_for_points(before, after):
    gained = sum(b < a for b, a in zip(before, after, strict=True))
    lost = sum(b > a for b, a in zip(before, after, strict=True))
    return gained, lost, (gained - lost) / len(before)


def exact__believes_the_reply(reply):
    stated = re.findall(r"= (\d+)", reply)
    return int(stated[-1]) if stated else None


def exact__forgets_the_slip(reply):
    """The last equation alone, calculated exactly."""
    found = re.findall(r"(\d+) ([-+*]) (\d+) =", reply)
    if not found:
        return None
    left, sign, right = found[-1]
    a, b = int(left), int(right)
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def questions_needed__rounds_down(changed, difference):
    return math.floor(1.96**2 * (changed - difference**2) / difference**2)


def questions_needed__one_standard_error(changed, difference):
    return math.ceil((changed - difference**2) / difference**2)
