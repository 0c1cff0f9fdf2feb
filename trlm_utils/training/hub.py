"""The Hub: push a stage's model or data sets, each with a card, to private repositories.

As in trlm, every stage has a repository of its own. With the name ``owner/name``:

- a model goes to ``owner/name-<stage>`` (and ``-seed-<n>`` for seeds other than 0), its kept
  checkpoints to branches ``step_<n>`` of that repository;
- data sets of a stage without a model go to the data set ``owner/name-<stage>``, one
  configuration each; a collected mixture, which has its own card, to ``owner/name-<data set>``.

The token is HF_TOKEN in the environment or in ``.env``. It is never printed or stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trlm_utils import keys
from trlm_utils.curation import mixture
from trlm_utils.files import PROJECT_ROOT, CourseError, read_json
from trlm_utils.stage import Stage

# Variables that a push needs in its process, and that the runner takes away otherwise.
VARIABLES = ("HF_TOKEN", "HF_HUB_OFFLINE")
ADAPTER = "adapter_config.json"


def check(name: str) -> None:
    """Check that there is a valid name and a token to push with.

    Raises:
        CourseError: when the name is not of the form ``owner/name``, or there is no token.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(f"{name}-stage")
    except HFValidationError:
        name = ""
    if name.count("/") != 1:
        raise CourseError("PUSH_TO is not of the form owner/name, as me/tiny-reasoner")
    if not keys.find("HF_TOKEN"):
        raise CourseError("PUSH_TO needs a token: set HF_TOKEN in the environment or in .env")


def push(folder: Path, name: str) -> str:
    """Push what a stage made, as `upload` does; returns a line that tells the result.

    A failed push is told in that line and raises nothing: the files are on disk.
    """
    try:
        return f"pushed to {', '.join(upload(folder, name))}"
    except CourseError as error:
        return str(error)


def push_checkpoint(stage: Stage, step: int, name: str) -> str:
    """Push a kept checkpoint to its branch; returns a line that tells the result."""
    try:
        with _Attempt(stage.folder, name) as api:
            repository = repository_of(name, stage.name, stage.seed)
            api.create_repo(repository, private=True, exist_ok=True)
            _push_step(api, stage.folder / f"step_{step}" / "model", repository, name)
            return f"pushed to {repository}, branch step_{step}"
    except CourseError as error:
        return str(error)


def upload(folder: Path, name: str) -> list[str]:
    """Push what a stage made; pushing the same again changes nothing.

    Args:
        folder: folder of the stage.
        name: ``owner/name``, the beginning of the repositories' names.

    Returns:
        Addresses of the repositories.

    Raises:
        CourseError: when it failed; says why and the command that pushes again.
    """
    with _Attempt(folder, name) as api:
        if (folder / "model").is_dir():
            return [_push_model(api, folder, name)]
        if (folder / "data").is_dir():
            return list(_push_data(api, folder, name))
        raise CourseError("no model and no data sets are there")


def repository_of(name: str, stage: str, seed: int) -> str:
    """The repository of a stage.

    >>> repository_of("me/tiny", "06_grpo", 0), repository_of("me/tiny", "06_grpo", 2)
    ('me/tiny-06_grpo', 'me/tiny-06_grpo-seed-2')
    """
    return f"{name}-{stage}" + (f"-seed-{seed}" if seed else "")


class _Attempt:
    """Context with the Hub's interface, in which every error becomes one plain line."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder.resolve(), name

    def __enter__(self) -> Any:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        check(self.name)
        disable_progress_bars()
        return HfApi(token=keys.find("HF_TOKEN"))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception):  # nothing failed, or the user interrupts
            return
        lines = str(error).strip().splitlines() or [kind.__name__]
        inside = self.folder.is_relative_to(PROJECT_ROOT)
        place = self.folder.relative_to(PROJECT_ROOT) if inside else self.folder
        raise CourseError(
            f"not pushed to {self.name}: {lines[0]}. Nothing is lost; to push again: "
            f"python -m trlm_utils push {place} {self.name}"
        ) from None


def _push_model(api: Any, folder: Path, name: str) -> str:
    seed = _manifest(folder).get("seed", 0)
    made = api.create_repo(repository_of(name, folder.name, seed), private=True, exist_ok=True)
    repository = made.repo_id
    api.upload_folder(folder_path=folder / "model", repo_id=repository)
    _upload_text(api, model_card(folder), "README.md", repo_id=repository)
    for place in sorted(folder.glob("step_*/model")):
        _push_step(api, place, repository, name)
    return str(made)


def _push_step(api: Any, model: Path, repository: str, name: str) -> None:
    """Push a checkpoint to the branch that is named as its folder.

    Of a training with LoRA it holds adapters. They name the model that they were trained on by
    its folder; on the Hub that is the repository of its stage.
    """
    branch = model.parent.name
    api.create_branch(repository, branch=branch, exist_ok=True)
    api.upload_folder(
        folder_path=model, repo_id=repository, revision=branch, ignore_patterns=[ADAPTER]
    )
    if (model / ADAPTER).is_file():
        settings = read_json(model / ADAPTER)
        stage = Path(settings["base_model_name_or_path"]).parent.name
        seed = re.search(r"(-seed-\d+)?$", repository)[0]
        settings["base_model_name_or_path"] = f"{name}-{stage}{seed}"
        text = json.dumps(settings, indent=2)
        _upload_text(api, text, ADAPTER, repo_id=repository, revision=branch)


def _push_data(api: Any, folder: Path, name: str) -> Iterator[str]:
    data = folder / "data"
    collected = [path.parent for path in sorted(data.glob(f"*/{mixture.METADATA}"))]
    for place in collected:
        made = api.create_repo(
            f"{name}-{place.name}", repo_type="dataset", private=True, exist_ok=True
        )
        api.upload_folder(
            folder_path=place,
            repo_id=made.repo_id,
            repo_type="dataset",
            ignore_patterns=[mixture.REJECTED],
        )
        yield str(made)
    known = {place.name for place in collected}
    rows = [path.name for path in sorted(data.glob("*.jsonl")) if path.stem not in known]
    if rows:
        repository = repository_of(name, folder.name, _manifest(folder).get("seed", 0))
        made = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        where = {"repo_id": made.repo_id, "repo_type": "dataset"}
        api.upload_folder(folder_path=data, path_in_repo="data", allow_patterns=rows, **where)
        _upload_text(api, data_card(folder, rows), "README.md", **where)
        yield str(made)


def _upload_text(api: Any, text: str, name: str, **where: Any) -> None:
    api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, **where)


# --- cards ---------------------------------------------------------------------------


def model_card(folder: Path) -> str:
    """A stage's model card in Markdown: what made the model, its settings, what was measured."""
    from huggingface_hub import ModelCardData

    manifest, metrics = _manifest(folder), _read(folder / "metrics.json")
    head = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["trlm", *_known(manifest, "recipe")],
    )
    lines = [*_title(head, folder, manifest), str(metrics.get("headline", "")), ""]
    measured = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    lines += _table("measured", measured) + _table("setting", _settings(manifest))
    lines += _table("package", manifest.get("versions", {}))
    lines.append("Branches `step_<n>`, where there are any, hold checkpoints of the training.")
    return "\n".join(lines) + "\n"


def data_card(folder: Path, files: list[str]) -> str:
    """A card of a stage's data sets in Markdown; each file is a configuration."""
    from huggingface_hub import DatasetCardData

    manifest, metrics = _manifest(folder), _read(folder / "metrics.json")
    each = [{"config_name": Path(name).stem, "data_files": f"data/{name}"} for name in files]
    head = DatasetCardData(tags=["trlm", *_known(manifest, "recipe")], configs=each)
    lines = [*_title(head, folder, manifest), str(metrics.get("headline", "")), ""]
    lines += _table("data set, rows", metrics.get("kept", {}))
    lines += _table("setting", _settings(manifest))
    return "\n".join(lines)


def _title(head: Any, folder: Path, manifest: dict[str, Any]) -> list[str]:
    made = [f"{key} {manifest[key]}" for key in ("recipe", "seed") if key in manifest]
    about = f"Made by stage {folder.name} ({', '.join(made)}) of a course on tiny reasoning models."
    return ["---", head.to_yaml(), "---", f"# {folder.name}", "", about, ""]


def _settings(manifest: dict[str, Any]) -> dict[str, Any]:
    """A stage's parameters that are numbers or words; texts with a path are left out."""
    values = manifest.get("parameters", {})
    plain = {k: v for k, v in values.items() if isinstance(v, int | float | str) and v != ""}
    return {k: v for k, v in plain.items() if not re.search(r"[/\\\n|]", str(v))}


def _table(title: str, values: dict[str, Any]) -> list[str]:
    rows = [f"| {name} | {value} |" for name, value in values.items()]
    return [f"| {title} | |", "| --- | --- |", *rows, ""] if rows else []


def _known(manifest: dict[str, Any], key: str) -> list[str]:
    return [str(manifest[key])] if key in manifest else []


def _manifest(folder: Path) -> dict[str, Any]:
    return _read(folder / "manifest.json")


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
