"""Read a recipe's YAML file and check its structure with pydantic (`recipes` checks the rest)."""

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
    """Check a name, which becomes a folder in runs/: no path, and not like a seed's folder."""
    if not re.fullmatch(r"\w[\w.-]*", name) or re.fullmatch(r"seed-\d+", name):
        raise ValueError("a bad name: letters, digits, _, - and dots are good, seed-N is taken")
    return name


Name = Annotated[str, AfterValidator(_as_folder)]


class Part(BaseModel):
    """Base class of a recipe's tables: only known keys, values of exactly the declared type."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Cost(Part):
    """The price of a machine per hour."""

    dollars_per_hour: NonNegativeFloat = 0.0
    machine: str = Field("", alias="for")


class Entry(Part):
    """One stage of a recipe: name of its folder, notebook, parameters."""

    stage: Name
    notebook: str | None = None  # name of a course notebook, or a path without .ipynb
    model_from: str | None = None
    parameters: dict[str, Any] | None = None


Groups = dict[str, Annotated[dict[str, str], Field(min_length=2)]]  # title -> label -> stage


class Scale(Part):
    """The stages of one scale, and options that replace those of the recipe."""

    stages: list[Entry] = Field(min_length=1)
    needs_hub: bool = False
    groups: Groups | None = None
    cost: Cost | None = None
    result: str | None = None


class RecipeFile(Part):
    """The content of a recipe's file."""

    name: Name | None = None
    about: str = ""
    continues: Name | None = None
    scales: dict[Name, Scale] = Field(min_length=1)
    groups: Groups | None = None
    cost: Cost | None = None
    result: str | None = None
    deviations: dict[str, list[str]] = {}


# pydantic's error types -> messages for the author of a recipe.
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
    """The recipes of the course: name -> one line of description."""
    return {path.stem: read(path).about for path in sorted(RECIPES.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe given by name or path.

    Raises:
        RecipeError: when there is none; suggests the most similar name.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in sorted(RECIPES.glob("*.yaml"))]
        raise RecipeError(f"no recipe {name!r}{nearest(name, known)}")
    return path


def run_name(path: Path) -> str:
    """Name of the folder in ``runs/`` for the stages of a recipe."""
    return read(path).continues or path.stem


def read(path: Path) -> RecipeFile:
    """Read and check a recipe's file.

    Raises:
        RecipeError: when it is not YAML, or has another structure; in one line.
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
    """The first error that pydantic found, as one line."""
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
    """The keys that are allowed in the table at this place of a recipe."""
    kinds: dict[str, type[Part]] = {"cost": Cost, "stages": Entry, "scales": Scale}
    kind = next((kinds[p] for p in reversed(place) if p in kinds), RecipeFile)
    return [field.alias or name for name, field in kind.model_fields.items()]
