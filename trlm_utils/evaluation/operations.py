"""Where a word problem goes wrong: in the choice of the operations, or in the arithmetic.

A reply works a word problem as equations, ``43 - 16 = 27. 27 * 2 = 54.`` Calculated again
exactly, they give the answer that the reply's *operations* lead to. If that is the gold answer
and the reply's is not, only the arithmetic failed.

>>> failure("<think> 43 - 16 = 37. 37 * 2 = 74.</think> The answer is 74.", "54")
'arithmetic'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from trlm_utils import answers
from trlm_utils.curation import equation
from trlm_utils.evaluation import ladder
from trlm_utils.evaluation.pooling import Records
from trlm_utils.files import read_rows

KINDS = ("right", "arithmetic", "operations", "no equation")
_NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
_EQUATION = re.compile(rf"({_NUMBER})\s*([-+*/×÷])\s*({_NUMBER})\s*=\s*\$?\s*({_NUMBER})")
_SIGNS = {"×": "*", "÷": "/"}


def failure(reply: str, gold: str) -> str:
    """One of `KINDS`: right, or what was wrong first.

    ``operations`` also stands for operations on the wrong numbers.
    """
    if answers.grade(reply, gold):
        return "right"
    reached = exact_result(reply)
    if reached is None:
        return "no equation"
    return "arithmetic" if equation.gives(reached, gold) else "operations"


def exact_result(reply: str) -> Fraction | None:
    """What the equations of a reply give when each is calculated exactly; None without any.

    A later equation that takes up a result as it was stated gets the exact one instead.
    """
    exact: dict[Fraction, Fraction] = {}
    last = None
    for left, sign, right, stated in _EQUATION.findall(reply):
        values = [_value(text) for text in (left, right)]
        a, b = (exact.get(value, value) for value in values)
        operator = _SIGNS.get(sign, sign)
        if operator == "/" and b == 0:
            continue
        last = {"+": a + b, "-": a - b, "*": a * b}.get(operator)
        last = a / b if last is None else last
        exact[_value(stated)] = last
    return last


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def table(groups: dict[str, dict[str, str]], records: Records, asked: dict[str, str]) -> Any:
    """What is wrong in the replies of each arm to questions that are not NanoWorld's.

    Args:
        groups: title -> label -> stage (of a recipe).
        records: stage -> list of records for each seed.
        asked: those questions (`foreign`).

    Returns:
        A frame with group, arm, band, decoding, n (replies) and the share of each of `KINDS`,
        in form "chat", over all seeds.
    """
    import pandas as pd

    rows = []
    for group, arms in groups.items():
        for arm, stage in arms.items():
            mine = [r for seed in records[stage] for r in seed if r["id"] in asked]
            for (band, form, decoding), found in ladder.by_group(mine).items():
                if form == "chat":
                    names = {"group": group, "arm": arm, "band": band, "decoding": decoding}
                    rows.append(names | {"n": sum(len(r["texts"]) for r in found)} | shares(found))
    return pd.DataFrame(rows)


def examples(
    groups: dict[str, dict[str, str]], records: Records, asked: dict[str, str], number: int = 12
) -> Any:
    """Greedy replies of every arm to the same few questions of each band, of the first seed.

    Args:
        groups, records, asked: see `table`.

    Returns:
        A frame with group, arm, band, question, gold, reply and kind (one of `KINDS`).
    """
    import pandas as pd

    rows = []
    for group, arms in groups.items():
        for arm, stage in arms.items():
            mine = [r for r in records[stage][0] if r["id"] in asked]
            for (band, form, decoding), found in ladder.by_group(mine).items():
                if (form, decoding) != ("chat", "greedy"):
                    continue
                for record in sorted(found, key=lambda r: r["id"])[:number]:
                    reply, gold = record["texts"][0], record["gold"]
                    names = {"group": group, "arm": arm, "band": band}
                    said = {"question": asked[record["id"]], "gold": gold}
                    rows.append(names | said | {"reply": reply, "kind": failure(reply, gold)})
    return pd.DataFrame(rows)


def foreign(places: Sequence[Path]) -> dict[str, str]:
    """Id -> question, of the questions in these folders that do not come from NanoWorld."""
    rows = [row for place in places for row in read_rows(place / "questions.jsonl")]
    return {row["id"]: row["question"] for row in rows if "worked" not in row}


def shares(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Share of replies of each of `KINDS`.

    Args:
        records: records of `held_out.evaluate`, with ``texts`` and ``gold``.
    """
    found = Counter(failure(text, record["gold"]) for record in records for text in record["texts"])
    return {kind: found[kind] / max(1, found.total()) for kind in KINDS}
