"""What a stage's result depends on, as one digest; equal digest, equal result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from trlm_utils.files import CourseError, read_json
from trlm_utils.rewards import own
from trlm_utils.runner import parameters
from trlm_utils.runner.recipes import StagePlan
from trlm_utils.stage import outputs_digest

PACKAGE = Path(__file__).parents[1]


def inputs_digest(plan: StagePlan, run: Path) -> str:
    """SHA-256 over all a stage's result depends on; equal digest, equal result."""
    digest = hashlib.sha256()
    given = {k: v for k, v in plan.parameters.items() if k != "RUN_DIR"}
    digest.update(json.dumps(given, sort_keys=True).encode())
    digest.update("\0".join(parameters.code_cells(plan.notebook)).encode())
    for path in sorted(PACKAGE.rglob("*.py")) + sorted(
        (PACKAGE / "evaluation/tasks").glob("*.yaml")
    ):
        if not path.is_relative_to(PACKAGE / "runner"):
            digest.update(path.read_bytes())
    for path in sorted((PACKAGE / "templates").glob("*.jinja")):
        digest.update(path.read_bytes())
    if set(plan.parameters.get("SUITES", ())) - {"nano"}:
        for path in sorted((PACKAGE / "evaluation/suites").glob("*.yaml")):
            digest.update(path.read_bytes())
        if plan.parameters["SUITE_DIR"]:
            digest.update(_listing(Path(plan.parameters["SUITE_DIR"])))
    if plan.parameters.get("DATA_DIR"):
        for path in sorted(Path(plan.parameters["DATA_DIR"]).glob("*.json*")):
            digest.update(path.read_bytes())
    for path in own.files_of(plan.parameters.get("REWARD_WEIGHTS") or {}):
        digest.update(path.read_bytes())
    for stage in plan.reads:
        digest.update(read_manifest(run / stage).get("outputs", "").encode())
    return digest.hexdigest()


def _listing(folder: Path) -> bytes:
    """Names, sizes and times of all files in a folder, which may be too large to read."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return "\n".join(f"{path} {s.st_size} {s.st_mtime_ns}" for path, s in found).encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """A stage's manifest, or {} where there is none or it is damaged."""
    try:
        return read_json(folder / "manifest.json")
    except CourseError:
        return {}


def is_finished(folder: Path, digest: str) -> bool:
    """Whether a stage is finished with these inputs and its outputs are unharmed."""
    manifest = read_manifest(folder)
    return (
        manifest.get("status") == "finished"
        and manifest.get("inputs") == digest
        and manifest.get("outputs") == outputs_digest(folder)
    )
