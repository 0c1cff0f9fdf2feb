"""Recipes: which notebooks run, in which order, with which parameters.

A recipe is a YAML file in `recipes/` (or anywhere: a path works too). It contains only
values that differ from the notebooks' defaults. All of it is checked against the notebooks'
parameters cells before a kernel starts.

    name: my-recipe
    about: one line
    scales:
      nano:
        stages:
          - stage: 00_start_here          # folder name; also the notebook, unless given
          - stage: 06_grpo_from_sft
            notebook: 06_grpo
            model_from: 03_sft_stage2     # default: the last earlier stage with a model
            parameters: {LEARNING_RATE: 3.0e-4}

``cost: {dollars_per_hour: 1.0, for: one L40S}`` lets the report say what a run cost.
A scale may have its own ``groups``, ``cost`` and ``result``.
``result`` names the stage whose model is the recipe's result (by default the last model).
``deviations`` (``both`` or the name of a scale -> list of texts) says what differs from the
system that the recipe reproduces.

With ``continues: nano`` a recipe's stages follow those of another recipe, in that recipe's
run folder; of the earlier ones only what they read is run (`Plan.spare`). ``groups`` (title ->
label -> stage, the reference first) names the stages that are compared
(`trlm_utils.evaluation.arms`), and that the recipe's evaluation evaluates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trlm_utils.evaluation.arms import stages_in
from trlm_utils.files import shown
from trlm_utils.runner import parameters, recipe_file
from trlm_utils.runner.parameters import (
    NOTEBOOKS,
    WIRING,
    Parameter,
    RecipeError,
    makes_model,
    nearest,
    read_parameters,
)
from trlm_utils.runner.recipe_file import Entry, RecipeFile, Scale, find_recipe

EVERYWHERE = "*"  # in an override: every stage that has the parameter
MAY_BE_EMPTY = ("TEXT_FROM", "MODEL_FROM", "REWARDS_FROM", "REWARD_MODEL_FROM", "TEACHER_FROM")


@dataclass(frozen=True)
class StagePlan:
    """One stage, ready to run: all its parameters, and the earlier stages that it reads."""

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
    machine: str = ""  # the machine that this price is for
    result: str = ""  # the stage whose model is the recipe's result
    deviations: tuple[str, ...] = ()  # from the system it reproduces, with reasons
    spare: tuple[str, ...] = ()  # stages of the continued recipe that no stage of this one reads


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
        overrides: texts of the form ``STAGE.NAME=VALUE``, VALUE in YAML; the stage ``*`` is
            every stage that has the parameter.
        run_dir: folder of the run, passed to every notebook.

    Raises:
        RecipeError: for anything invalid, in one line.
    """
    path = find_recipe(name)
    content = recipe_file.read(path)
    own = scale_of(content, scale, path)
    recipe, earlier = content.name or path.stem, []
    if content.continues:
        before = find_recipe(content.continues)
        first = recipe_file.read(before)
        recipe = first.name or before.stem
        earlier = scale_of(first, scale, before).stages
    entries = [*earlier, *own.stages]
    given = parse_overrides(overrides, [e.stage for e in entries])
    groups = (own.groups if own.groups is not None else content.groups) or {}
    _check_groups(groups, [e.stage for e in entries], path)
    stages: list[StagePlan] = []
    wiring = {"RECIPE": recipe, "SEED": seed, "RUN_DIR": run_dir}
    compared = stages_in(groups)
    for number, entry in enumerate(entries):
        asked = compared if number >= len(earlier) else []
        if asked and not earlier:  # not a continuation: also evaluate the first model
            asked = list(dict.fromkeys([_first_model(stages), *asked]))
        stages.append(_plan_stage(entry, stages, given, wiring, asked))
    _check_everywhere(given.get(EVERYWHERE, {}), stages)
    _check_prompts(stages)
    _check_suites(stages, own.needs_hub)
    _check_models(stages, own.needs_hub)
    cost = own.cost or content.cost or recipe_file.Cost()
    return Plan(
        recipe,
        scale,
        seed,
        content.about,
        own.needs_hub,
        tuple(stages),
        groups,
        cost.dollars_per_hour,
        cost.machine,
        _result(content, own, stages, path),
        _deviations(content, scale, path),
        _spare(stages, len(earlier)),
    )


def _spare(stages: Sequence[StagePlan], earlier: int) -> tuple[str, ...]:
    """Of the first ``earlier`` stages those that no later one reads, nor what these read."""
    needed: set[str] = set()
    for number, plan in reversed(list(enumerate(stages))):
        if number >= earlier or plan.stage in needed:
            needed |= set(plan.reads)
    return tuple(plan.stage for plan in stages[:earlier] if plan.stage not in needed)


def scale_of(content: RecipeFile, scale: str, path: Path) -> Scale:
    """One scale of a recipe.

    Raises:
        RecipeError: when the recipe has no such scale; names those it has.
    """
    if scale not in content.scales:
        raise RecipeError(f"recipe {path.stem} has no scale {scale!r}, only {list(content.scales)}")
    return content.scales[scale]


def _deviations(content: RecipeFile, scale: str, path: Path) -> tuple[str, ...]:
    if odd := sorted(set(content.deviations) - {"both", *content.scales}):
        known = ["both", *content.scales]
        raise RecipeError(f"{shown(path)}: deviations of {odd[0]!r}{nearest(odd[0], known)}")
    return tuple(text for part in ("both", scale) for text in content.deviations.get(part, ()))


def parse_overrides(overrides: Sequence[str], stages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse texts of the form ``STAGE.NAME=VALUE`` into stage -> name -> value.

    Raises:
        RecipeError: for another form, an unknown stage, or a value that is not YAML.
    """
    given: dict[str, dict[str, Any]] = {}
    for text in overrides:
        target, equals, value = text.partition("=")
        stage, dot, name = target.partition(".")
        if not (equals and dot and name):
            raise RecipeError(f"--set {text}: not of the form STAGE.NAME=VALUE")
        if stage not in (*stages, EVERYWHERE):
            raise RecipeError(f"--set {text}: no stage {stage!r}{nearest(stage, list(stages))}")
        try:
            given.setdefault(stage, {})[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {text}: the value is not YAML") from None
    return given


def _plan_stage(
    entry: Entry,
    before: Sequence[StagePlan],
    given: dict[str, dict[str, Any]],
    wiring: dict[str, Any],
    compared: list[str],
) -> StagePlan:
    name = entry.stage
    if name in [plan.stage for plan in before]:
        raise RecipeError(f"stage {name} occurs twice")
    notebook = NOTEBOOKS / f"{entry.notebook or name}.ipynb"
    known = read_parameters(notebook)
    values = {key: parameter.default for key, parameter in known.items()}
    if name != notebook.stem:  # an arm: what is there to be read runs in the notebook's own stage
        values |= {key: 0 for key in parameters.WALKTHROUGHS if key in known}
    values |= _links(known, before, entry.model_from, name)
    if "EVALUATE" in known and compared:
        values["EVALUATE"] = compared
    everywhere = {k: v for k, v in given.get(EVERYWHERE, {}).items() if k in known}
    own = {**(entry.parameters or {}), **everywhere, **given.get(name, {})}
    for key, value in own.items():
        where = f"stage {name}"
        if key in WIRING:
            raise RecipeError(f"{where}: {key} is set by the runner")
        if key not in known:
            raise RecipeError(f"{where}: no parameter {key!r}{nearest(key, known)}")
        values[key] = parameters.checked_value(key, value, known[key], where)
    for key in ("DATA_DIR", "SUITE_DIR"):  # resolved, so that the working directory is irrelevant
        if values.get(key):
            values[key] = str(Path(values[key]).expanduser().resolve())
    values |= wiring | {"STAGE": name}
    parameters.check_values(name, values, f"stage {name}")
    reads = _reads(values, before, name)
    return StagePlan(name, notebook, {k: values[k] for k in known}, reads)


def _links(
    known: dict[str, Parameter],
    before: Sequence[StagePlan],
    model_from: str | None,
    name: str,
) -> dict[str, Any]:
    """Default of each ``..._FROM`` parameter: the earlier stage that it refers to."""
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
        ("BESIDE_FROM", "03_sft_stage2"),
        ("EVALUATION_FROM", "07_evaluation"),
    ):
        if key in known:
            links[key] = by_notebook.get(notebook, "")
    if "EVALUATE" in known:
        links["EVALUATE"] = models
    return links


def _reads(values: dict[str, Any], before: Sequence[StagePlan], name: str) -> tuple[str, ...]:
    """The earlier stages that a stage reads; RecipeError if one is not in the recipe."""
    stages = [plan.stage for plan in before]
    wanted = {key: value for key, value in values.items() if key.endswith("_FROM")}
    wanted |= {f"EVALUATE[{i}]": s for i, s in enumerate(values.get("EVALUATE") or [])}
    for key, stage in wanted.items():
        if stage == "" and key in MAY_BE_EMPTY:
            continue
        if stage_of(stage) not in stages:
            raise RecipeError(
                f"stage {name}: {key} is {stage!r}, which is no earlier stage"
                f"{nearest(stage, stages)}"
            )
        if stage != stage_of(stage) and not key.startswith("EVALUATE"):
            raise RecipeError(f"stage {name}: {key} is {stage!r}; a checkpoint is only evaluated")
        if stage != stage_of(stage):
            _check_step(stage, before[stages.index(stage_of(stage))], f"stage {name}: {key}")
    found = {stage_of(stage) for stage in wanted.values()}
    return tuple(stage for stage in stages if stage in found)


def stage_of(model: str) -> str:
    """The stage that made a model: ``grpo`` for ``grpo/step_50``, a kept checkpoint."""
    return model.partition("/")[0]


def _check_suites(stages: Sequence[StagePlan], needs_hub: bool) -> None:
    """Raise RecipeError if an offline recipe would have to download a suite."""
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


def _check_everywhere(given: dict[str, Any], stages: Sequence[StagePlan]) -> None:
    """Raise RecipeError for an override of every stage that no stage has."""
    known = sorted({name for plan in stages for name in plan.parameters})
    for name in given:
        if name not in known:
            raise RecipeError(f"--set *.{name}: no parameter {name!r}{nearest(name, known)}")


def _check_step(model: str, stage: StagePlan, where: str) -> None:
    """Raise RecipeError for a checkpoint that its stage does not keep."""
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
    """Raise RecipeError if GRPO has too few prompts for one step: it would train no step."""
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


def _result(content: RecipeFile, own: Scale, stages: Sequence[StagePlan], path: Path) -> str:
    """The stage named by ``result``, else the last stage that makes a model."""
    models = [plan.stage for plan in stages if makes_model(plan.notebook)]
    named = own.result or content.result or (models[-1] if models else "")
    if models and named not in models:
        raise RecipeError(f"{shown(path)}: result names {named!r}{nearest(named, models)}")
    return named


def _check_models(stages: Sequence[StagePlan], needs_hub: bool) -> None:
    """Check that base models are available, and that completions fit into a model's context."""
    room = 0
    for plan in stages:
        values, where = plan.parameters, f"stage {plan.stage}"
        if values.get("BASE_MODEL"):
            parameters.check_base_model(values["BASE_MODEL"], needs_hub, where)
        elif "MAX_POSITIONS" in values:
            room = values["MAX_POSITIONS"]
        if room and values.get("MAX_NEW_TOKENS", 0) >= room:
            raise RecipeError(
                f"{where}: MAX_NEW_TOKENS {values['MAX_NEW_TOKENS']} does not fit into the "
                f"model's {room} positions (MAX_POSITIONS)"
            )


def _check_groups(groups: dict[str, dict[str, str]], stages: Sequence[str], path: Path) -> None:
    for title, arms in groups.items():
        for stage in arms.values():
            if stage_of(stage) not in stages:
                raise RecipeError(
                    f"{shown(path)}: group {title!r} names {stage!r}{nearest(stage, stages)}"
                )
