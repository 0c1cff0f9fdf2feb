"""Start from the release archive: which of its stages count as finished here, and which do not."""

from __future__ import annotations

from collections.abc import Sequence

from trlm_utils import release
from trlm_utils.files import runs_root, shown
from trlm_utils.runner import digest, pipeline, recipes

LISTED = 4  # changed dependencies to name


def fetch(place: str = "") -> str:
    """Unpack a release archive, and say of each stage whether it is finished here.

    Args:
        place: see `release.fetch`.

    Raises:
        CourseError: see `release.unpack`.
    """
    folder = runs_root().resolve() / release.RUN
    with pipeline.locked(folder):
        placed, kept = release.unpack(place)
        text = verdicts(placed)
    lines = [f"unpacked into {shown(folder)}: {', '.join(placed) or 'nothing'}"]
    if kept:
        lines.append(f"there already, and kept as it was: {', '.join(kept)}")
    return "\n".join([*lines, *text])


def verdicts(names: Sequence[str]) -> list[str]:
    """A line for each unpacked stage of the recipe: finished, or what has changed since.

    A stage whose inputs changed would be trained again by `make course`, and so would those
    after it; ``--from`` takes the earlier ones as they are.
    """
    folder = pipeline.run_folder(release.RUN, "nano", 0)
    plan = recipes.load_plan(release.RUN, "nano", 0, [], str(folder))
    lines, changed = [], []
    for stage in (stage for stage in plan.stages if stage.stage in names):
        found = digest.dependencies(stage, folder)
        if digest.is_finished(folder / stage.stage, digest.digest_of(found)):
            lines.append(f"  {stage.stage:<18} finished")
            continue
        changed.append(stage.stage)
        differ = digest.changes(digest.read_manifest(folder / stage.stage), found)
        more = f" and {len(differ) - LISTED} more" if len(differ) > LISTED else ""
        told = ", ".join(differ[:LISTED]) + more or "its files"
        lines.append(f"  {stage.stage:<18} changed since the release: {told}")
    if changed:
        lines.append(
            f"`make course` runs again from {changed[0]} on, and keeps the released results in "
            ".previous; to go on from a later stage with the files as they are: ARGS='--from STAGE'"
        )
    return lines
