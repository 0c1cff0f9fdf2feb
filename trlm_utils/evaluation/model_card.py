"""The model card of a stage's model: a README.md in the form of the Hugging Face Hub.

Every number comes from the files of the run: manifests and metrics of the stages that made
the model, and the ladder of the stage that evaluated it. The text is `templates/`
``model_card.md.jinja``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trlm_utils.files import CourseError, read_json, read_rows, shown

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

TEMPLATE = Path(__file__).with_name("templates") / "model_card.md.jinja"
WIRING = ("STAGE", "RECIPE", "SEED", "RUN_DIR")  # parameters that say where, not how
QUESTION = "Ana has 12 apples. May brings 5. How many apples now?"
LICENCES = {
    "mit": "MIT, as the course: weights from random numbers, data from its own generator.",
    "other": "That of the base model and of the data sets named above; look them up.",
}


def make(folder: Path, gguf: str = "") -> ModelCard:
    """The card of the model of a finished stage.

    Args:
        folder: the stage's folder, inside its run.
        gguf: name of the GGUF file beside the card, if there is one.

    Returns:
        A card whose metadata (licence, tags, results by band) huggingface_hub has read back.

    Raises:
        CourseError: when the stage, or one that it came from, left no manifest.
    """
    from huggingface_hub import ModelCard

    facts = collect(folder)
    text = TEMPLATE.read_text(encoding="utf-8")
    tools = {"percent": percent, "points": points, "gguf": gguf}
    card = ModelCard.from_template(metadata(facts), template_str=text, **facts, **tools)
    return ModelCard(str(card))  # reads the metadata: raises if they are not what the Hub takes


def collect(folder: Path) -> dict[str, Any]:
    """All that the card says of a stage's model, from the files of its run.

    Raises:
        CourseError: see `make`.
    """
    stages = lineage(folder)
    last, first = stages[-1], stages[0]
    data_sets = _data_sets(folder.parent, stages)
    base_model = first["parameters"].get("BASE_MODEL", "")
    own = not base_model and all(one["source"] == "nanoworld" for one in data_sets)
    config = read_json(folder / "model" / "config.json")
    results = evaluation(folder)
    known = results.get("bands", [])
    return {
        "title": f"{last['recipe']}: {folder.name}",
        "recipe": last["recipe"],
        "seed": last["seed"],
        "base_model": base_model,
        "architecture": ", ".join(config.get("architectures") or [config["model_type"]]),
        "positions": config["max_position_embeddings"],
        "parameters": _parameters(folder / "model"),
        "only_words": only_words(folder / "model"),
        "stages": stages,
        "data_sets": data_sets,
        "versions": last["versions"],
        "question": next((one["example"] for one in known if one["example"]), QUESTION),
        "max_new_tokens": last["parameters"].get("MAX_NEW_TOKENS", 160),
        **{name: results.get(name, []) for name in ("ladder", "over_base", "bands")},
        "evaluated_by": results.get("evaluated_by", ""),
        "limits": limits(results.get("ladder", []), bool(base_model)),
        "licence_id": "mit" if own else "other",
        "licence": LICENCES["mit" if own else "other"],
    }


def lineage(folder: Path) -> list[dict[str, Any]]:
    """The stages that made a model, first to last, each with its manifest's facts.

    Raises:
        CourseError: when one of them left no manifest.
    """
    found: list[dict[str, Any]] = []
    while folder.name not in [stage["stage"] for stage in found]:
        manifest, metrics = (_read(folder / f"{name}.json") for name in ("manifest", "metrics"))
        parameters = manifest.get("parameters", {})
        settings = {name: v for name, v in parameters.items() if name not in WIRING}
        found.append(
            {
                "stage": folder.name,
                "recipe": manifest["recipe"],
                "seed": manifest["seed"],
                "versions": manifest["versions"],
                "parameters": parameters,
                "settings": yaml.safe_dump(settings, sort_keys=False, width=100),
                "tokens": metrics.get("tokens", 0),
                "headline": metrics.get("headline", ""),
            }
        )
        if not parameters.get("MODEL_FROM"):
            break
        folder = folder.parent / parameters["MODEL_FROM"]
    return found[::-1]


def evaluation(folder: Path) -> dict[str, Any]:
    """Ladder and differences to the base model of a stage, from the stage that evaluated it.

    Returns:
        Empty if no stage of the run did. If several did, the last by name counts.
    """
    for path in sorted(folder.parent.glob("*/data/ladder.jsonl"), reverse=True):
        rows = [row for row in read_rows(path) if row["stage"] == folder.name]
        if rows:
            above, asked = (
                read_rows(place) if (place := path.with_name(f"{name}.jsonl")).is_file() else []
                for name in ("over_base", "questions")
            )
            return {
                "evaluated_by": path.parent.parent.name,
                "ladder": rows,
                "over_base": [row for row in above if row["to"] == folder.name],
                "bands": bands(asked, rows),
            }
    return {}


def bands(questions: list[dict[str, Any]], ladder: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Kinds of questions in the ladder: how many, how many steps each, and an example."""
    found = []
    for band, n in {row["band"]: str(row["n"]) for row in ladder}.items():
        own = [row for row in questions if row["band"] == band]
        steps = [row["difficulty"] for row in own if "difficulty" in row]
        between = f"{min(steps)} to {max(steps)}" if steps else ""
        example = own[0]["question"] if own else ""
        found.append({"band": band, "n": n, "steps": between, "example": example})
    return found


def limits(ladder: list[dict[str, Any]], pretrained: bool) -> list[str]:
    """What the model cannot do, in sentences: from its numbers, and what holds for all."""
    greedy = [r for r in ladder if (r["form"], r["decoding"]) == ("chat", "greedy")]
    weak = [f"{r['band']} ({percent(r['accuracy'])} %)" for r in greedy if r["accuracy"] < 0.5]
    found = []
    if weak:
        found.append(f"Asked greedily it is wrong more often than right on: {', '.join(weak)}.")
    if not pretrained:
        found.append(
            "It knows the words, names and numbers of its training text and nothing else: no "
            "facts about the world, no conversation beyond one turn."
        )
    return [
        *found,
        "A thought that reads well need not be the reason for the answer, and may be wrong.",
        "English only. No training for safety was done; nothing filters what it says.",
    ]


def metadata(facts: dict[str, Any]) -> Any:
    """The card's metadata for the Hub: licence, tags and each accuracy as a result."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=row["band"],
            dataset_name=row["band"],
            metric_type="accuracy",
            metric_name=f"accuracy, {row['form']}, {row['decoding']}",
            metric_value=round(row["accuracy"], 4),
        )
        for row in facts["ladder"]
    ]
    on_hub = {"base_model": facts["base_model"]} if facts["base_model"] else {}
    other = {} if facts["licence_id"] == "mit" else {"license_name": "see-base-model-and-data"}
    return ModelCardData(
        language="en",
        license=facts["licence_id"],
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["trlm", "reasoning"],
        model_name=facts["title"],
        eval_results=results or None,
        **on_hub,
        **other,
    )


def percent(share: float | None) -> str:
    """A share as percent with one decimal; empty for None."""
    return "" if share is None else f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of shares as percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def only_words(folder: Path) -> bool:
    """Whether a model's tokenizer is the course's own: words and bytes, no merges."""
    pieces = read_json(folder / "tokenizer.json")["model"]
    return bool(pieces.get("ignore_merges")) and not pieces["merges"]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CourseError(f"no {shown(path)}: a card needs the stages that made the model")
    return read_json(path)


def _data_sets(run: Path, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(stage["parameters"].get("DATA_FROM") for stage in stages)
    found = []
    for name in filter(None, names):
        manifest, metrics = (_read(run / name / f"{part}.json") for part in ("manifest", "metrics"))
        source = manifest.get("parameters", {}).get("SOURCE", "")
        parts = {"kept": metrics.get("kept", {}), "contaminated": metrics.get("contaminated", {})}
        found.append({"stage": name, "source": source, **parts})
    return found


def _parameters(folder: Path) -> int:
    """Number of weights in a model's folder."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]
        total += sum(map(math.prod, shapes))
    return total
