"""A notebook's parameters: read their declarations, and check values before anything runs.

All errors are found before a kernel starts. Each message is one line that says what is wrong
and where.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trlm_utils import chat, engines, nanoworld, tokenization
from trlm_utils.curation import data_sets, gsm8k, mixture
from trlm_utils.evaluation import suites
from trlm_utils.files import PROJECT_ROOT, CourseError, from_root, shown
from trlm_utils.models import DTYPES, HEADS, MODEL_TYPES
from trlm_utils.rewards import mixes
from trlm_utils.training import configuration, hub, preflight, trackers
from trlm_utils.training.optimizers import OPTIMIZERS

NOTEBOOKS = PROJECT_ROOT / "notebooks"


TYPES = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "dict": dict,
    "list": list,
}


WIRING = ("RECIPE", "STAGE", "SEED", "RUN_DIR")  # set by the runner only


class RecipeError(ValueError):
    """A recipe or request is invalid; the message says what and where, in one line."""


@dataclass(frozen=True)
class Parameter:
    """A notebook's parameter: its type name and default value."""

    type: str
    default: Any


def code_cells(notebook: Path) -> list[str]:
    """Sources of a notebook's code cells, without those that prepare Colab (tag ``colab``).

    Raises:
        RecipeError: when the file is missing or not a notebook.
    """
    return [source for source, tags in _tagged_cells(notebook) if "colab" not in tags]


def _tagged_cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """Source and tags of each code cell of a notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        known = sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb"))
        raise RecipeError(f"no notebook {notebook.stem!r}{nearest(notebook.stem, known)}") from None
    except (ValueError, KeyError):
        raise RecipeError(f"{shown(notebook)} is not a notebook") from None
    return [
        ("".join(cell["source"]), cell.get("metadata", {}).get("tags", []))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares: name -> type and default.

    They stand in the cell with the tag ``parameters``, which papermill knows, and in the folded
    one before it, tag ``settings``: what papermill injects follows both, and so replaces either.
    The cells must contain only lines of the form ``NAME: type = literal``.

    Raises:
        RecipeError: when there is no such cell or a line has another form.
    """
    cells = dict.fromkeys(("parameters", "settings"), "")
    for source, tags in _tagged_cells(notebook):
        cells |= {tag: source for tag in cells if tag in tags and not cells[tag]}
    if not cells["parameters"]:
        raise RecipeError(f"{notebook.name} has no cell with the tag 'parameters'")
    found: dict[str, Parameter] = {}
    for source in cells.values():
        found |= _parse_parameters(source, notebook)
    return found


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
    """Whether a notebook saves a model."""
    return any("stage.save_model(" in source for source in code_cells(notebook))


def checked_value(name: str, value: Any, parameter: Parameter, where: str) -> Any:
    """The value converted to the type that the notebook declares; floats accept integers.

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
    """A hint for texts such as ``1e-6``, which YAML 1.1 does not read as a number."""
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


def _one_of(known: Sequence[str]) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in known), f"is one of {', '.join(known)}"


# numbers of steps of what a notebook walks through for its reader; 0 in stages of other names
WALKTHROUGHS = ("HAND_STEPS",)
SOURCES = ("nanoworld", "gsm8k", "mixture")
# transformers' implementations; kernels from the Hub, named owner/name, are also accepted
ATTENTION = ("", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


CHOICES: dict[str, Sequence[str]] = {
    "SOURCE": SOURCES,
    "CONTRACT": tuple(chat.CONTRACTS),
    "METHOD": ("ppo", "rloo", "process"),
    "CREDIT": ("sum", "min"),
    "SIGNAL": ("rejection", "random", "distillation", "self_distillation"),
    "PAIRS": ("on_policy", "dataset"),
    "IMPORTANCE": ("token", "sequence"),
    "OPTIMIZER": OPTIMIZERS,
    "LR_SCHEDULER": configuration.SCHEDULERS,
    "SCALE_REWARDS": ("group", "batch", "none"),
    "TRACKER": trackers.NAMES,
    "DTYPE": DTYPES,
    "MODEL_TYPE": tuple(MODEL_TYPES),
    "ROLLOUT_DTYPE": DTYPES,
    "ROLLOUTS": engines.NAMES,
}
# Parameter -> (condition, condition in words). A name means the same in every notebook.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        (
            "BATCH_SIZE EPOCHS EVAL_PER_BAND GROUP_SIZE LEARNING_RATE "
            "MAX_LENGTH MAX_NEW_TOKENS MAX_TOKENS MICRO_BATCH PROMPTS_PER_STEP SAMPLES "
            "STAGE1_ROWS STAGE2_ROWS DPO_PROMPTS GRPO_PROMPTS PREFERENCE_ROWS "
            "ACCUMULATION HIDDEN_SIZE LAYERS VOCAB_SIZE SAVE_STEPS EVAL_BATCH PROBE_PROMPTS "
            "PASS_SAMPLES DIRECT_STEPS LOOK_EVERY ITERATIONS EPSILON TEMPERATURE LORA_ALPHA "
            "PROMPTS ROUNDS TEACHER_TEMPERATURE WINDOW ASKED BENCH_PROBLEMS"
        ).split(),
        (_positive, "must be above 0"),
    ),
    **dict.fromkeys(
        ("TALK_SHARE", "LORA_DROPOUT"),
        (_share, "must lie in [0, 1]"),
    ),
    "BASE_PROBLEMS": (_not_negative, "must not be negative"),
    "CHECK_PROBLEMS": (lambda value: value >= 40, "must be at least 40, to hold every family"),
    "ATTENTION": (
        lambda value: value in ATTENTION or "/" in value,
        f"is one of {', '.join(ATTENTION[1:])}, a kernel of the Hub, or empty",
    ),
    "MAX_STEPS": (_steps, "must be above 0, or -1 for whole epochs"),
    **{name: _one_of(known) for name, known in CHOICES.items()},
    **dict.fromkeys(
        (
            "VECTOR_RATE MATRIX_RATE PASS_QUESTIONS LORA_RANK EPSILON_HIGH LOOK_TEMPERATURE "
            "WARMUP WEIGHT_DECAY MIN_LR_RATE SUITE_QUESTIONS PLAIN_SAMPLES "
            "HAND_STEPS LIVE_STEPS"
        ).split(),
        (_not_negative, "must not be negative"),
    ),
}


def check_values(name: str, values: dict[str, Any], where: str) -> None:
    """Check the parameter values of one stage, each alone and in combination.

    Raises:
        RecipeError: names the stage, the parameter and what is wrong with it.
    """
    for key, value in values.items():
        if key in RULES and not RULES[key][0](value):
            raise RecipeError(f"{where}: {key} is {value!r}: {RULES[key][1]}")
    try:
        for check in CHECKS:
            check(values)
        if values.get("SOURCE") == "gsm8k" and not values["DATA_DIR"]:
            raise ValueError(f"DATA_DIR is not set: add --set {name}.DATA_DIR=FOLDER")
        if values.get("SOURCE") == "gsm8k":
            gsm8k.check_folder(Path(values["DATA_DIR"]))
    except (ValueError, CourseError) as error:
        raise RecipeError(f"{where}: {error}") from None


def _check_rewards(values: dict[str, Any]) -> None:
    if "REWARD_WEIGHTS" in values:
        mixes.choose(values["REWARD_WEIGHTS"])
    if "LIVE_MIX" in values:
        mixes.choose(values["LIVE_MIX"] | values["LIVE_CHANGE"])
    if "REWARD_MODEL_FROM" in values and not values["REWARD_MODEL_FROM"]:
        if "learned" in mixes.expand(values["REWARD_WEIGHTS"]):
            raise ValueError("the reward learned needs REWARD_MODEL_FROM, a stage with a model")


def _check_training(values: dict[str, Any]) -> None:
    if "MICRO_BATCH" in values and values.get("METHOD") != "ppo":  # PPO has no groups
        configuration.grpo_batch(
            values["PROMPTS_PER_STEP"], values["GROUP_SIZE"], values["MICRO_BATCH"]
        )
    if "LOSS_TYPE" in values:
        trainer = "grpo" if "GROUP_SIZE" in values else "dpo" if "BETA" in values else "sft"
        losses, loss = configuration.LOSSES[trainer], values["LOSS_TYPE"]
        if loss not in losses:
            raise ValueError(f"LOSS_TYPE {loss!r} is none of {trainer}'s: {', '.join(losses)}")
        if loss == "cispo" and values["EPSILON_HIGH"] < 1:
            # TRL clips the ratio itself (not its distance from 1) at epsilon_high
            raise ValueError(
                "LOSS_TYPE cispo cuts ratios off at EPSILON_HIGH, which has to be above 1 (5.0)"
            )
        level = {"luspo": "sequence", "vespo": "token"}.get(loss)
        if level and values["IMPORTANCE"] != level:
            raise ValueError(f"LOSS_TYPE {loss} needs IMPORTANCE {level}")
    if values.get("SIGNAL") == "distillation" and not values["TEACHER_FROM"]:
        raise ValueError("SIGNAL distillation needs TEACHER_FROM, a stage with a stronger model")
    if values.get("OPTIMIZER") == "muon" and values.get("LORA_RANK"):
        raise ValueError("LORA_RANK needs OPTIMIZER adamw: Muon is for whole matrices")
    for check, reason in values.get("ALLOW_FAILED", {}).items():
        if check not in preflight.CHECKS:
            raise ValueError(f"ALLOW_FAILED: no check {check!r}{nearest(check, preflight.CHECKS)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"ALLOW_FAILED: say why {check!r} may fail")


def _check_data(values: dict[str, Any]) -> None:
    for name in (name for name in ("STEPS", "STAGE2_STEPS", "PROMPT_STEPS") if name in values):
        try:
            nanoworld.check_lengths(values[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if "TEACHERS" in values:
        nanoworld.draw_teacher(values["TEACHERS"], "check")
    if values.get("SOURCE") == "mixture":
        if not values["MIXTURE"]:
            raise ValueError("SOURCE is mixture, and MIXTURE describes none")
        for data_set, spec in values["MIXTURE"].items():
            mixture.validate(data_set, spec, values["HUB_MIRROR"], values["DATA_DIR"])
    if values.get("EVAL_BANDS"):
        data_sets.check_bands(values["EVAL_BANDS"], _known_bands(values))
    if "SUITES" in values:
        suites.check(values["SUITES"], values["TASKS"])


def _known_bands(values: dict[str, Any]) -> list[str]:
    """The bands of the evaluation's questions; empty if only the data can tell."""
    spec = values["MIXTURE"].get("eval", {}) if values["SOURCE"] == "mixture" else {}
    named = [source.get("band") for source in spec.get("sources", [])]
    return [*named, *nanoworld.BANDS] if values["SOURCE"] != "gsm8k" and all(named) else []


def _check_shape(values: dict[str, Any]) -> None:
    """Check the sizes of a model that is built from random weights."""
    if "HIDDEN_SIZE" in values and not values["BASE_MODEL"] and not values["ARCHITECTURE"]:
        step = 2 * HEADS
        if values["HIDDEN_SIZE"] % step:
            raise ValueError(
                f"HIDDEN_SIZE is {values['HIDDEN_SIZE']}, no multiple of {step} (2 x {HEADS} heads)"
            )
        if values["MAX_LENGTH"] > values["MAX_POSITIONS"]:
            raise ValueError(
                f"MAX_LENGTH {values['MAX_LENGTH']} is more than MAX_POSITIONS "
                f"{values['MAX_POSITIONS']}: raise the latter"
            )
    if (
        values.get("VOCAB_SIZE", tokenization.SMALLEST_VOCABULARY)
        < tokenization.SMALLEST_VOCABULARY
    ):
        raise ValueError(
            f"VOCAB_SIZE is {values['VOCAB_SIZE']}; bytes, numbers and special tokens alone "
            f"need {tokenization.SMALLEST_VOCABULARY}"
        )


def _check_places(values: dict[str, Any]) -> None:
    """Check that the folders and files in parameters exist."""
    for key in ("DATA_DIR", "HUB_MIRROR", "SUITE_DIR"):
        if values.get(key) and not (place := Path(PROJECT_ROOT, values[key])).is_dir():
            raise ValueError(f"{key} {shown(place)} is not a folder")
    for key in (name for name in values if name.endswith("TABLE")):
        if values[key] and not (place := Path(PROJECT_ROOT, values[key])).is_file():
            raise ValueError(f"{key} {shown(place)} is not a file")


def _check_copies(values: dict[str, Any]) -> None:
    """Check that a tracker is installed, and that there is a token to push with."""
    trackers.check(values.get("TRACKER", "none"))
    if values.get("PUSH_TO"):
        hub.check(values["PUSH_TO"])


CHECKS = (
    _check_rewards,
    _check_training,
    _check_data,
    _check_shape,
    _check_places,
    _check_copies,
    engines.check,
)


def check_base_model(name: str, needs_hub: bool, where: str) -> None:
    """Check that a base model is available: a folder, a file, or a name on the Hub.

    Args:
        needs_hub: whether the recipe may download; else a name must be in the local cache.

    Raises:
        RecipeError: when it is not available.
    """
    path = from_root(name)
    if path.is_dir() and not (path / "config.json").is_file():
        raise RecipeError(
            f"{where}: BASE_MODEL {shown(path)} has no config.json: no model lies there"
        )
    if path.exists():
        return
    named = re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", name) and not name.startswith(".")
    if not named or name.endswith(".gguf"):
        hint = "; `make real` fetches it" if name.startswith("models/") else ""
        raise RecipeError(f"{where}: BASE_MODEL {name} does not exist{hint}")
    if needs_hub:
        return
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        raise RecipeError(
            f"{where}: BASE_MODEL {name} is no folder here, and this recipe works offline: "
            "give a folder or a .gguf file, or set needs_hub: true at its scale"
        )


def nearest(name: str, known: Any) -> str:
    """The end of a message on an unknown name: the most similar known name, or all of them."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
