"""Stratified sampling of a mixture: quotas by length or difficulty, e.g. 1 long to 4 short."""

from __future__ import annotations

from typing import Any

from trlm_utils.curation import sources
from trlm_utils.curation.sources import Row
from trlm_utils.files import CourseError


class Strata:
    """Quotas for the parts of a stratum, such as 1 long row to 4 short rows.

    ``length: {at: 1024, long: 1, short: 4}`` divides rows into short (at most ``at`` tokens)
    and long. ``difficulty: {easy: [1, 2], hard: [4, 5], ratio: [1, 3]}`` divides them by the
    value of their difficulty column. A row is rejected when the quota of its part is full.

    Args:
        spec: the mixture, with ``strata``.
        taken: part -> number of kept rows so far; updated by `take`.
    """

    def __init__(self, spec: Row, taken: dict[str, int]):
        self.spec, self.taken = spec.get("strata") or {}, taken
        self.room = {
            f"{stratum} {part}": round(self._total(stratum, spec) * ratio)
            for stratum, parts in self.spec.items()
            for part, ratio in ratios(stratum, parts).items()
        }

    @staticmethod
    def _total(stratum: str, spec: Row) -> int:
        """Requested rows of all sources that a stratum divides."""
        return sum(quota(source, spec) or 0 for source in divided(stratum, spec))

    def full(self, row: Row) -> str | None:
        """The reason to reject a row, if the quota of one of its parts is full; else None."""
        for part in self._parts(row):
            if self.taken.get(part, 0) >= self.room.get(part, 0):
                return f"{part}: enough"
        return None

    def take(self, row: Row) -> None:
        """Count a row that is kept."""
        for part in self._parts(row):
            self.taken[part] = self.taken.get(part, 0) + 1

    def _parts(self, row: Row) -> list[str]:
        return [part for stratum in self.spec if (part := self._part(stratum, row))]

    def _part(self, stratum: str, row: Row) -> str | None:
        """The part of a stratum that a row belongs to; None if it has no difficulty column."""
        parts = self.spec[stratum]
        if stratum == "length":
            return f"length {'short' if row.get('_tokens', 0) <= parts['at'] else 'long'}"
        if "difficulty" not in row:
            return None
        value = row["difficulty"]
        for part in ("easy", "hard"):
            if value in map(str, parts[part]):
                return f"difficulty {part}"
        return "difficulty unknown"


def divided(stratum: str, spec: Row) -> list[Row]:
    """The sources that a stratum divides; for difficulty, those with such a column."""
    return [
        source
        for source in spec["sources"]
        if stratum == "length" or "difficulty" in (source.get("columns") or {})
    ]


def validate(spec: Row) -> None:
    """Check that strata are well-formed and divide only sources of known size.

    Raises:
        CourseError: says which stratum and what is wrong with it.
    """
    strata = spec.get("strata") or {}
    if "length" in strata and "max_tokens" not in (spec.get("checks") or {}):
        raise CourseError("stratum length needs the check max_tokens, which counts the tokens")
    for stratum, parts in strata.items():
        ratios(stratum, parts)
        for source in divided(stratum, spec):
            if quota(source, spec) is None:
                raise CourseError(
                    f"stratum {stratum} divides {sources.name_of(source)}, which has neither rows "
                    "nor a share: say how many rows are wanted"
                )


def ratios(stratum: str, parts: Any) -> dict[str, float]:
    """Part -> its share of the rows.

    Raises:
        CourseError: when ``parts`` is not in the form that `Strata` describes.
    """
    try:
        if stratum == "length":
            weights = {part: float(parts[part]) for part in ("long", "short")}
            assert int(parts["at"]) > 0
        elif stratum == "difficulty":
            easy, hard = parts["ratio"]
            weights = {"easy": float(easy), "hard": float(hard)}
            assert list(parts["easy"]) and list(parts["hard"])
        else:
            raise CourseError(f"unknown stratum {stratum!r}; there are: length, difficulty")
        assert min(weights.values()) > 0
    except (KeyError, TypeError, ValueError, AssertionError):
        form = {"length": "{at: 1024, long: 1, short: 4}"}
        usual = form.get(stratum, "{easy: [1, 2], hard: [4, 5], ratio: [1, 3]}")
        raise CourseError(f"stratum {stratum} is not of the form {usual}") from None
    return {part: weight / sum(weights.values()) for part, weight in weights.items()}


def quota(source: Row, spec: Row) -> int | None:
    """Requested number of rows of a source; None for all of them."""
    limits = [source["rows"]] if "rows" in source else []
    if "share" in source:
        limits.append(round(source["share"] * spec["rows"]))
    return min(limits) if limits else None
