"""A recipe's YAML file and its shape, checked by pydantic; rules between stages are the plan's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeFloat
from pydantic import ValidationError as ShapeError

from trlm_utils.files import shown
from trlm_utils.runner.parameters import RecipeError, nearest

RECIPES = Path(__file__).with_name("recipes")


def _as_folder(name: str) -> str:
    """Names become folders in runs/: none may lead out of it or look like a seed's folder."""
    if not re.fullmatch(r"\w[\w.-]*", name) or re.fullmatch(r"seed-\d+", name):
        raise ValueError("a bad name: letters, digits, _, - and dots are good, seed-N is taken")
    return name


Name = Annotated[str, AfterValidator(_as_folder)]


class Part(BaseModel):
    """A table of a recipe: known keys only, and values of the very type."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Cost(Part):
    """What an hour of which machine costs."""

    dollars_per_hour: NonNegativeFloat = 0.0
    machine: str = Field("", alias="for")


class Entry(Part):
    """One stage: its folder's name, and what it runs."""

    stage: Name
    notebook: str | None = None  # of the course, or a path without .ipynb
    model_from: str | None = None
    parameters: dict[str, Any] | None = None


Groups = dict[str, Annotated[dict[str, str], Field(min_length=2)]]  # title -> label -> stage


class Scale(Part):
    """The stages of one scale, and what it says otherwise than the recipe."""

    stages: list[Entry] = Field(min_length=1)
    needs_hub: bool = False
    groups: Groups | None = None
    cost: Cost | None = None
    result: str | None = None


class RecipeFile(Part):
    """A whole recipe."""

    name: Name | None = None
    about: str = ""
    continues: Name | None = None
    scales: dict[Name, Scale] = Field(min_length=1)
    groups: Groups | None = None
    cost: Cost | None = None
    result: str | None = None
    deviations: dict[str, list[str]] = {}


# pydantic's kinds of errors, in the words of a recipe.
WORDS = {
    "dict_type": "should be a table of `key: value`",
    "model_type": "should be a table of `key: value`",
    "list_type": "should be a list of `- ...`",
    "string_type": "should be a text; quote it",
    "bool_type": "should be true or false",
    "float_type": "should be a number",
    "greater_than_equal": "must not be negative",
}


def list_recipes() -> dict[str, str]:
    """Names of the recipes that come with the course, with one line on each."""
    return {path.stem: read(path).about for path in sorted(RECIPES.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe given by name or path.

    Raises:
        RecipeError: when there is none; names the nearest one.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in sorted(RECIPES.glob("*.yaml"))]
        raise RecipeError(f"no recipe {name!r}{nearest(name, known)}")
    return path


def run_name(path: Path) -> str:
    """Name of the folder in ``runs/`` that a recipe's stages lie in."""
    return read(path).continues or path.stem


def read(path: Path) -> RecipeFile:
    """A recipe's file.

    Raises:
        RecipeError: when it is not YAML, or of another shape; in one line.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = str(error).replace("\n", " ")
        raise RecipeError(f"{shown(path)} is not valid YAML: {reason}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{shown(path)} is not a recipe")
    try:
        return RecipeFile.model_validate(content)
    except ShapeError as error:
        raise RecipeError(f"{shown(path)}: {_told(error)}") from None


def _told(error: ShapeError) -> str:
    """The first thing that pydantic found, for people."""
    first = error.errors()[0]
    *place, last = first["loc"]
    where = ", ".join(map(str, place))
    if first["type"] == "extra_forbidden":
        known = _keys(place)
        return f"{where + ': ' if where else ''}unknown key {last!r}{nearest(str(last), known)}"
    where = ", ".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{where} is missing"
    said = WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "too_short":
        said = f"needs at least {first['ctx']['min_length']}"
    return f"{where} is {first['input']!r}: {said}"


def _keys(place: list[Any]) -> list[str]:
    """The keys that a table at this place of a recipe may have."""
    kinds: dict[str, type[Part]] = {"cost": Cost, "stages": Entry, "scales": Scale}
    kind = next((kinds[p] for p in reversed(place) if p in kinds), RecipeFile)
    return [field.alias or name for name, field in kind.model_fields.items()]
