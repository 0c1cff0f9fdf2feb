"""Recipes: which notebooks run, in which order, with which parameters.

A recipe is a YAML file in `recipes/` (or anywhere: a path works too). It holds
overrides only; everything is checked against the notebooks' own parameters cells
before a kernel starts.

    name: my-recipe
    about: one line
    scales:
      nano:
        stages:
          - stage: 00_start_here          # folder name; also the notebook, unless given
          - stage: 06_grpo_from_sft
            notebook: 06_grpo
            model_from: 03_sft_stage2     # default: the stage before that made a model
            parameters: {LEARNING_RATE: 3.0e-4}

``cost: {dollars_per_hour: 1.0, for: one L40S}`` lets the report say what a run cost.
A scale may have ``groups``, ``cost`` and ``result`` of its own.
``result`` names the stage that the recipe comes to (by default its last model), and
``deviations`` (both, or a scale, to a list of texts) what differs from the original.

With ``continues: nano`` a recipe's stages come after those of another, in the other's
run folder. ``groups`` (title -> label -> stage, the reference first) says which stages
are to be set side by side (`trlm_utils.evaluation.held_out.arms`); its evaluation asks those.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trlm_utils import chat, nanoworld
from trlm_utils.curation import gsm8k, mixture
from trlm_utils.evaluation import suites
from trlm_utils.evaluation.arms import stages_in
from trlm_utils.files import PROJECT_ROOT, CourseError, shown
from trlm_utils.rewards import mixes
from trlm_utils.training import configuration
from trlm_utils.training.optimizers import OPTIMIZERS

RECIPES = Path(__file__).with_name("recipes")
NOTEBOOKS = PROJECT_ROOT / "notebooks"
TYPES = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "dict": dict,
    "list": list,
}
MAY_BE_EMPTY = ("TEXT_FROM", "MODEL_FROM", "REWARDS_FROM", "REWARD_MODEL_FROM")
WIRING = ("RECIPE", "STAGE", "SEED", "RUN_DIR")  # set by the runner alone


class RecipeError(ValueError):
    """The request is wrong; the message says what and where, in one line."""


@dataclass(frozen=True)
class Parameter:
    """A notebook's parameter: its type name and default value."""

    type: str
    default: Any


@dataclass(frozen=True)
class StagePlan:
    """One stage, ready to run: every parameter it will be given, and what it reads."""

    stage: str
    notebook: Path
    parameters: dict[str, Any]
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A checked recipe at one scale."""

    recipe: str
    scale: str
    seed: int
    about: str
    needs_hub: bool
    stages: tuple[StagePlan, ...]
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    dollars_per_hour: float = 0.0
    machine: str = ""  # what that price is for
    result: str = ""  # the stage whose model is what the recipe comes to
    deviations: tuple[str, ...] = ()  # from the system it reproduces, with reasons


# --- notebooks --------------------------------------------------------------------


def code_cells(notebook: Path) -> list[str]:
    """Sources of a notebook's code cells.

    Raises:
        RecipeError: when there is no such notebook or it is not a notebook.
    """
    import json

    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        known = sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb"))
        raise RecipeError(
            f"no notebook {notebook.stem!r}{_nearest(notebook.stem, known)}"
        ) from None
    except (ValueError, KeyError):
        raise RecipeError(f"{shown(notebook)} is not a notebook") from None
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The typed literals of a notebook's parameters cell.

    The cell is recognised by its first parameter, STAGE, and holds nothing but lines
    of the form ``NAME: type = literal``.

    Raises:
        RecipeError: when there is no such cell or a line has another form.
    """
    for source in code_cells(notebook):
        if re.search(r"^STAGE: str =", source, re.MULTILINE):
            return _parse_parameters(source, notebook)
    raise RecipeError(f"{notebook.name} has no parameters cell (one that sets STAGE)")


def _parse_parameters(source: str, notebook: Path) -> dict[str, Parameter]:
    found = {}
    for node in ast.parse(source).body:
        try:
            assert isinstance(node, ast.AnnAssign) and node.value is not None
            found[node.target.id] = Parameter(node.annotation.id, ast.literal_eval(node.value))
        except (AssertionError, AttributeError, ValueError):
            raise RecipeError(
                f"{notebook.name}, parameters cell, line {node.lineno}: "
                "not of the form NAME: type = literal"
            ) from None
    return found


def makes_model(notebook: Path) -> bool:
    """Whether a notebook leaves a model behind."""
    return any("stage.save_model(" in source for source in code_cells(notebook))


# --- values -----------------------------------------------------------------------


def checked_value(name: str, value: Any, parameter: Parameter, where: str) -> Any:
    """A value as the notebook declares it; whole numbers are accepted for floats.

    Raises:
        RecipeError: for a value of another type.
    """
    wanted = TYPES[parameter.type]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    hint = ""
    if wanted in (int, float) and isinstance(value, str):
        hint = _number_hint(value)
    raise RecipeError(f"{where}: {name} is {value!r}, not {parameter.type}{hint}")


def _number_hint(text: str) -> str:
    """YAML 1.1 reads ``1e-6`` as text; say how to write it as a number."""
    found = re.fullmatch(r"([+-]?\d+)[eE]([+-]?)(\d+)", text)
    if not found:
        return ""
    sign = found[2] or "+"
    return f" (YAML reads this as text; write {found[1]}.0e{sign}{found[3]})"


def _positive(value: Any) -> bool:
    return math.isfinite(value) and value > 0


def _not_negative(value: Any) -> bool:
    return math.isfinite(value) and value >= 0


def _share(value: Any) -> bool:
    return 0 <= value <= 1


def _steps(value: Any) -> bool:
    return value == -1 or value > 0


SOURCES = ("nanoworld", "gsm8k", "mixture")
# Parameter -> (what must hold, in words). One place, because a name means the same
# thing in every notebook.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        (
            "BATCH_SIZE EPOCHS EVAL_PER_BAND GROUP_SIZE LEARNING_RATE "
            "MAX_LENGTH MAX_NEW_TOKENS MAX_TOKENS MICRO_BATCH PROMPTS_PER_STEP SAMPLES "
            "STAGE1_ROWS STAGE2_ROWS DPO_PROMPTS GRPO_PROMPTS PREFERENCE_ROWS "
            "ACCUMULATION HIDDEN_SIZE LAYERS VOCAB_SIZE SAVE_STEPS EVAL_BATCH PROBE_PROMPTS "
            "PASS_SAMPLES DIRECT_STEPS LOOK_EVERY ITERATIONS EPSILON TEMPERATURE LORA_ALPHA"
        ).split(),
        (_positive, "must be above 0"),
    ),
    **dict.fromkeys(
        ("TALK_SHARE", "LONG_SHARE", "GRPO_LONG_SHARE", "LORA_DROPOUT"),
        (_share, "must lie in [0, 1]"),
    ),
    "BASE_PROBLEMS": (_not_negative, "must not be negative"),
    "MAX_STEPS": (_steps, "must be above 0, or -1 for whole epochs"),
    "SOURCE": (lambda v: v in SOURCES, f"is {' or '.join(SOURCES)}"),
    "CONTRACT": (lambda v: v in chat.CONTRACTS, f"is {' or '.join(chat.CONTRACTS)}"),
    "METHOD": (lambda v: v in ("ppo", "rloo", "process"), "is ppo, rloo or process"),
    "CREDIT": (lambda v: v in ("sum", "min"), "is sum or min"),
    "PAIRS": (lambda v: v in ("on_policy", "dataset"), "is on_policy or dataset"),
    "IMPORTANCE": (lambda v: v in ("token", "sequence"), "is token or sequence"),
    "OPTIMIZER": (lambda v: v in OPTIMIZERS, f"is {' or '.join(OPTIMIZERS)}"),
    **dict.fromkeys(
        (
            "VECTOR_RATE MATRIX_RATE PASS_QUESTIONS LORA_RANK EPSILON_HIGH LOOK_TEMPERATURE "
            "WARMUP WEIGHT_DECAY MIN_LR_RATE SUITE_QUESTIONS"
        ).split(),
        (_not_negative, "must not be negative"),
    ),
}


def check_values(name: str, values: dict[str, Any], where: str) -> None:
    """What must hold of one stage's values, each alone and together.

    Raises:
        RecipeError: names the stage, the parameter and what is wrong with it.
    """
    for key, value in values.items():
        if key in RULES and not RULES[key][0](value):
            raise RecipeError(f"{where}: {key} is {value!r}: {RULES[key][1]}")
    try:
        if "REWARD_WEIGHTS" in values:
            mixes.choose(values["REWARD_WEIGHTS"])
        if "REWARD_MODEL_FROM" in values and not values["REWARD_MODEL_FROM"]:
            if "learned" in mixes.expand(values["REWARD_WEIGHTS"]):
                raise ValueError("the reward learned needs REWARD_MODEL_FROM, a stage with a model")
        if "TEACHERS" in values:
            nanoworld.draw_teacher(values["TEACHERS"], "check")
        if "MICRO_BATCH" in values and values.get("METHOD") != "ppo":  # PPO compares no group
            configuration.grpo_batch(
                values["PROMPTS_PER_STEP"], values["GROUP_SIZE"], values["MICRO_BATCH"]
            )
        if values.get("LOSS_TYPE") == "cispo" and values["EPSILON_HIGH"] < 1:
            # TRL clamps the ratio itself (not its distance from 1) at epsilon_high
            raise ValueError(
                "LOSS_TYPE cispo cuts ratios off at EPSILON_HIGH, which has to be above 1 (5.0)"
            )
        if values.get("SOURCE") == "mixture":
            if not values["MIXTURE"]:
                raise ValueError("SOURCE is mixture, and MIXTURE describes none")
            for data_set, spec in values["MIXTURE"].items():
                mixture.validate(data_set, spec, values["HUB_MIRROR"], values["DATA_DIR"])
        if "SUITES" in values:
            suites.check(values["SUITES"], values["TASKS"])
        if values.get("OPTIMIZER") == "muon" and values.get("LORA_RANK"):
            raise ValueError("LORA_RANK needs OPTIMIZER adamw: Muon is for whole matrices")
        if values.get("SOURCE") == "gsm8k":
            if not values["DATA_DIR"]:
                raise ValueError(f"DATA_DIR is not set: add --set {name}.DATA_DIR=FOLDER")
            gsm8k.check_folder(Path(values["DATA_DIR"]))
    except (ValueError, CourseError) as error:
        raise RecipeError(f"{where}: {error}") from None


# --- recipes ----------------------------------------------------------------------


def list_recipes() -> dict[str, str]:
    """Names of the recipes that come with the course, with one line on each."""
    return {
        path.stem: str(_read_yaml(path).get("about", "")) for path in sorted(RECIPES.glob("*.yaml"))
    }


def find_recipe(name: str) -> Path:
    """The file of a recipe given by name or path.

    Raises:
        RecipeError: when there is none; names the nearest one.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in sorted(RECIPES.glob("*.yaml"))]
        raise RecipeError(f"no recipe {name!r}{_nearest(name, known)}")
    return path


def run_name(path: Path) -> str:
    """Name of the folder in ``runs/`` that a recipe's stages lie in."""
    return str(_read_yaml(path).get("continues", path.stem))


def _entries(content: dict[str, Any], scale: str, path: Path) -> list[dict[str, Any]]:
    """The stages of a recipe as they stand in its file."""
    scales = content.get("scales")
    if not isinstance(scales, dict) or scale not in scales:
        known = list(scales) if isinstance(scales, dict) else []
        raise RecipeError(f"recipe {path.stem} has no scale {scale!r}, only {known}")
    entries = scales[scale].get("stages") if isinstance(scales[scale], dict) else None
    if not entries:
        raise RecipeError(f"recipe {path.stem}, scale {scale}: no stages")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RecipeError(f"recipe {path.stem}, scale {scale}: stages is no list of `- stage: ...`")
    return entries


def load_plan(
    name: str,
    scale: str = "nano",
    seed: int = 0,
    overrides: Sequence[str] = (),
    run_dir: str = "",
) -> Plan:
    """Read a recipe and check all of it.

    Args:
        name: a recipe's name, or a path to a YAML file.
        scale: "nano" or "full".
        seed: given to every stage.
        overrides: texts of the form ``STAGE.NAME=VALUE``, VALUE in YAML.
        run_dir: folder of the run, handed to every notebook.

    Raises:
        RecipeError: for anything that cannot work, in one line.
    """
    path = find_recipe(name)
    content = _read_yaml(path)
    entries = _entries(content, scale, path)
    recipe, earlier = str(content.get("name", path.stem)), []
    if "continues" in content:
        before = find_recipe(str(content["continues"]))
        first = _read_yaml(before)
        recipe = str(first.get("name", before.stem))
        earlier = _entries(first, scale, before)
    entries = earlier + entries
    given = parse_overrides(overrides, [str(e.get("stage")) for e in entries])
    groups = content["scales"][scale].get("groups", content.get("groups")) or {}
    _check_groups(groups, [str(e.get("stage")) for e in entries], path)
    dollars, machine = _cost(content, scale, path)
    stages: list[StagePlan] = []
    wiring = {"RECIPE": recipe, "SEED": seed, "RUN_DIR": run_dir}
    compared = stages_in(groups)
    for number, entry in enumerate(entries):
        own = compared if number >= len(earlier) else []
        if own and not earlier:  # a recipe of its own shows where it started, too
            own = list(dict.fromkeys([_first_model(stages), *own]))
        stages.append(_plan_stage(entry, stages, given, wiring, own))
    _check_prompts(stages)
    needs_hub = bool(content["scales"][scale].get("needs_hub", False))
    _check_suites(stages, needs_hub)
    return Plan(
        recipe,
        scale,
        seed,
        str(content.get("about", "")),
        needs_hub,
        tuple(stages),
        groups,
        dollars,
        machine,
        _result(content, scale, stages, path),
        _deviations(content, scale, path),
    )


def parse_overrides(overrides: Sequence[str], stages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``STAGE.NAME=VALUE`` texts as stage -> name -> value.

    Raises:
        RecipeError: for another form, an unknown stage, or a value that is not YAML.
    """
    given: dict[str, dict[str, Any]] = {}
    for text in overrides:
        target, equals, value = text.partition("=")
        stage, dot, name = target.partition(".")
        if not (equals and dot and name):
            raise RecipeError(f"--set {text}: not of the form STAGE.NAME=VALUE")
        if stage not in stages:
            raise RecipeError(f"--set {text}: no stage {stage!r}{_nearest(stage, list(stages))}")
        try:
            given.setdefault(stage, {})[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {text}: the value is not YAML") from None
    return given


def _plan_stage(
    entry: dict[str, Any],
    before: Sequence[StagePlan],
    given: dict[str, dict[str, Any]],
    wiring: dict[str, Any],
    compared: list[str],
) -> StagePlan:
    unknown = set(entry) - {"stage", "notebook", "model_from", "parameters"}
    name = entry.get("stage")
    if unknown or not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise RecipeError(f"stage {name!r}: unknown keys {sorted(unknown)} or a bad name")
    if name in [plan.stage for plan in before]:
        raise RecipeError(f"stage {name} occurs twice")
    notebook = NOTEBOOKS / f"{entry.get('notebook', name)}.ipynb"
    known = read_parameters(notebook)
    values = {key: parameter.default for key, parameter in known.items()}
    values |= _links(known, before, entry.get("model_from"), name)
    if "EVALUATE" in known and compared:
        values["EVALUATE"] = compared
    own = {**(entry.get("parameters") or {}), **given.get(name, {})}
    for key, value in own.items():
        where = f"stage {name}"
        if key in WIRING:
            raise RecipeError(f"{where}: {key} is set by the runner")
        if key not in known:
            raise RecipeError(f"{where}: no parameter {key!r}{_nearest(key, known)}")
        values[key] = checked_value(key, value, known[key], where)
    for key in ("DATA_DIR", "SUITE_DIR"):  # a path means the same from every folder
        if values.get(key):
            values[key] = str(Path(values[key]).expanduser().resolve())
    values |= wiring | {"STAGE": name}
    check_values(name, values, f"stage {name}")
    reads = _reads(values, before, name)
    return StagePlan(name, notebook, {k: values[k] for k in known}, reads)


def _links(
    known: dict[str, Parameter],
    before: Sequence[StagePlan],
    model_from: str | None,
    name: str,
) -> dict[str, Any]:
    """Which earlier stage each ``..._FROM`` parameter means when nothing is said."""
    models = [plan.stage for plan in before if makes_model(plan.notebook)]
    by_notebook = {plan.notebook.stem: plan.stage for plan in before}
    links: dict[str, Any] = {}
    if "MODEL_FROM" in known:
        links["MODEL_FROM"] = model_from or (models[-1] if models else "")
    elif model_from:
        raise RecipeError(f"stage {name}: its notebook starts from no model")
    for key, notebook in (
        ("DATA_FROM", "01_data_curation"),
        ("REWARDS_FROM", "05_grpo_rewards"),
    ):
        if key in known:
            links[key] = by_notebook.get(notebook, "")
    if "EVALUATE" in known:
        links["EVALUATE"] = models
    return links


def _reads(values: dict[str, Any], before: Sequence[StagePlan], name: str) -> tuple[str, ...]:
    """The earlier stages that a stage reads from; each must exist in the recipe."""
    stages = [plan.stage for plan in before]
    wanted = {key: value for key, value in values.items() if key.endswith("_FROM")}
    wanted |= {f"EVALUATE[{i}]": s for i, s in enumerate(values.get("EVALUATE") or [])}
    for key, stage in wanted.items():
        if stage == "" and key in MAY_BE_EMPTY:
            continue
        if stage_of(stage) not in stages:
            raise RecipeError(
                f"stage {name}: {key} is {stage!r}, which is no earlier stage"
                f"{_nearest(stage, stages)}"
            )
        if stage != stage_of(stage) and not key.startswith("EVALUATE"):
            raise RecipeError(f"stage {name}: {key} is {stage!r}; a checkpoint is only evaluated")
        if stage != stage_of(stage):
            _check_step(stage, before[stages.index(stage_of(stage))], f"stage {name}: {key}")
    found = {stage_of(stage) for stage in wanted.values()}
    return tuple(stage for stage in stages if stage in found)


def stage_of(model: str) -> str:
    """The stage that a model comes from: of ``grpo/step_50``, a checkpoint kept, ``grpo``."""
    return model.partition("/")[0]


def _check_suites(stages: Sequence[StagePlan], needs_hub: bool) -> None:
    """Raises RecipeError where a suite would be fetched by a recipe that works offline."""
    for plan in stages:
        asked = [name for name in plan.parameters.get("SUITES", ()) if name != "nano"]
        folder = plan.parameters.get("SUITE_DIR")
        if asked and folder and not Path(folder).is_dir():
            raise RecipeError(f"stage {plan.stage}: SUITE_DIR {shown(Path(folder))} is no folder")
        if asked and not needs_hub and not folder:
            raise RecipeError(
                f"stage {plan.stage}: suite {asked[0]} needs its files, and SUITE_DIR is not set: "
                f"add --set {plan.stage}.SUITE_DIR=FOLDER"
            )


def _check_step(model: str, stage: StagePlan, where: str) -> None:
    """Raises RecipeError for a checkpoint that its stage does not keep."""
    values = stage.parameters
    every = values.get("SAVE_STEPS", 1)
    steps = range(every, values.get("MAX_STEPS", 0) + 1, every)
    kept = [f"{stage.stage}/step_{step}" for step in steps if values.get("KEEP_CHECKPOINTS")]
    if model not in kept:
        raise RecipeError(
            f"{where} is {model!r}, but stage {stage.stage} keeps no such checkpoint "
            "(KEEP_CHECKPOINTS, SAVE_STEPS, MAX_STEPS)"
        )


def _check_prompts(stages: Sequence[StagePlan]) -> None:
    """GRPO on fewer prompts than one step takes would silently train no step at all."""
    made = {p.stage: p.parameters for p in stages}
    for plan in stages:
        need = plan.parameters.get("PROMPTS_PER_STEP")
        source = made.get(plan.parameters.get("DATA_FROM", ""), {})
        have = source.get("GRPO_PROMPTS")
        if need and have and have < need:
            raise RecipeError(
                f"stage {plan.stage}: PROMPTS_PER_STEP is {need}, but the data stage "
                f"makes only GRPO_PROMPTS {have}"
            )


def _first_model(stages: Sequence[StagePlan]) -> str:
    return next((plan.stage for plan in stages if makes_model(plan.notebook)), "")


def _cost(content: dict[str, Any], scale: str, path: Path) -> tuple[float, str]:
    """What an hour costs, and of which machine; a scale's own ``cost`` goes before.

    Raises:
        RecipeError: when it is not of the form ``{dollars_per_hour: 1.0, for: text}``.
    """
    cost = content["scales"][scale].get("cost", content.get("cost")) or {}
    price = cost.get("dollars_per_hour", 0.0) if isinstance(cost, dict) else None
    if isinstance(price, bool) or not isinstance(price, (int, float)) or price < 0:
        raise RecipeError(
            f"{shown(path)}: cost is not of the form dollars_per_hour: 1.0, for: text"
        )
    return float(price), str(cost.get("for", ""))


def _result(content: dict[str, Any], scale: str, stages: Sequence[StagePlan], path: Path) -> str:
    """The stage named by ``result``, or else the last one that makes a model."""
    models = [plan.stage for plan in stages if makes_model(plan.notebook)]
    of_scale = content["scales"][scale].get("result", content.get("result"))
    named = of_scale or (models[-1] if models else "")
    if models and named not in models:
        raise RecipeError(f"{shown(path)}: result names {named!r}{_nearest(named, models)}")
    return named


def _deviations(content: dict[str, Any], scale: str, path: Path) -> tuple[str, ...]:
    found = content.get("deviations") or {}
    if not isinstance(found, dict) or set(found) - {"both", *content["scales"]}:
        raise RecipeError(f"{shown(path)}: deviations is no table of both and the scales")
    listed = [*(found.get("both") or []), *(found.get(scale) or [])]
    if not all(isinstance(text, str) for text in listed):
        raise RecipeError(f"{shown(path)}: deviations are texts; quote those with a colon")
    return tuple(listed)


def _check_groups(groups: Any, stages: Sequence[str], path: Path) -> None:
    if not isinstance(groups, dict):
        raise RecipeError(f"{shown(path)}: groups is no table of title and arms")
    for title, arms in groups.items():
        if not isinstance(title, str) or not isinstance(arms, dict) or len(arms) < 2:
            raise RecipeError(f"{shown(path)}: group {title!r} is no table of arms")
        for stage in arms.values():
            if stage_of(str(stage)) not in stages:
                raise RecipeError(
                    f"{shown(path)}: group {title!r} names {stage!r}{_nearest(stage, stages)}"
                )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = str(error).replace("\n", " ")
        raise RecipeError(f"{shown(path)} is not valid YAML: {reason}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{shown(path)} is not a recipe")
    return content


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
