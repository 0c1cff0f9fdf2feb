"""The release archive: the finished stages of the run `nano`, to start from at any stage.

It holds each stage's models, data, metrics, log, manifest and the tables of its figures, the
logs of the run's further seeds, and ``SHA256SUMS``, in the form of ``sha256sum``. Equal runs
give equal bytes: names are sorted, times and owners left out. Checkpoints, pictures and the
executed notebooks are left out; the committed notebooks have those outputs.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from trlm_utils import repository
from trlm_utils.files import PROJECT_ROOT, CourseError, read_json, runs_root, shown

RUN = "nano"
SUMS = "SHA256SUMS"
LOGS = ("log_history.csv", "manifest.json", "metrics.json")  # what is kept of further seeds


def archive_name() -> str:
    """File name of this version's archive, as ``nano-v0.1.0.tar.xz``."""
    return f"{RUN}-{repository.tag()}.tar.xz"


def contents(run: Path) -> dict[str, Path]:
    """Name in the archive -> file, for everything that belongs into it.

    Raises:
        CourseError: when the run has no finished stage.
    """
    found = {}
    for stage in _finished(run):
        for path in (p for p in stage.rglob("*") if p.is_file()):
            inside = path.relative_to(stage)
            picture = inside.parts[0] == "figures" and path.suffix != ".csv"
            if inside.parts[0] != "checkpoints" and path.name != "notebook.ipynb" and not picture:
                found[f"{RUN}/{stage.name}/{inside.as_posix()}"] = path
    if not found:
        raise CourseError(f"{shown(run)} has no finished stage: run `make course` first")
    for seed in sorted(run.glob("seed-*")):
        for stage in _finished(seed):
            for path in (stage / name for name in LOGS if (stage / name).is_file()):
                found[f"{RUN}/logs/{seed.name}/{stage.name}/{path.name}"] = path
    if (report := run / "report.json").is_file():
        found[f"{RUN}/report.json"] = report
    return dict(sorted(found.items()))


def _finished(run: Path) -> Iterator[Path]:
    """Folders of a run's finished stages."""
    for manifest in sorted(run.glob("[!.]*/manifest.json")):
        if read_json(manifest).get("status") == "finished":
            yield manifest.parent


def build(run: Path, folder: Path) -> Path:
    """Write the archive, and its own checksum beside it; returns the archive.

    Args:
        run: folder of the run.
        folder: folder of the archive.

    Raises:
        CourseError: when the run has no finished stage, or a file names a path of this machine.
    """
    files = {name: path.read_bytes() for name, path in contents(run).items()}
    for name, data in files.items():
        if str(PROJECT_ROOT).encode() in data or str(Path.home()).encode() + b"/" in data:
            raise CourseError(f"{name} names a path of this machine; it does not go into a release")
    sums = "".join(f"{_sha(data)}  {name}\n" for name, data in files.items())
    files = {SUMS: sums.encode(), **files}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)  # its defaults: mode 644, time 0, no owner
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    packed = lzma.compress(buffer.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / archive_name()
    archive.write_bytes(packed)
    (folder / SUMS).write_text(f"{_sha(packed)}  {archive.name}\n", encoding="utf-8")
    return archive


def fetch(place: str, folder: Path) -> Path:
    """Copy or download an archive into a folder; returns the file.

    Args:
        place: a path, an address, or empty: then the file that `build` leaves, if it is
            there, else that of this version's release.

    Raises:
        CourseError: when it cannot be had.
    """
    own = runs_root() / "release" / archive_name()
    if not place:
        place = str(own) if own.is_file() else repository.asset(archive_name())
    if "://" not in place:
        if not Path(place).is_file():
            raise CourseError(f"no release archive {place}: `make release` builds one")
        return Path(place)
    target = folder / archive_name()
    try:
        with urllib.request.urlopen(place, timeout=60) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (OSError, urllib.error.URLError) as error:
        raise CourseError(f"no release archive at {place}: {error}") from None
    return target


def unpack(place: str = "", before: str = "") -> tuple[list[str], list[str]]:
    """Put the stages of an archive into the run `nano`, once all checksums agree.

    A stage that is there already stays as it is.

    Args:
        place: see `fetch`.
        before: only stages whose names sort before this one, that is, are earlier; empty
            means all, and ``logs`` and ``report.json``.

    Returns:
        Names of what was put there, and of what was there already.

    Raises:
        CourseError: when the archive cannot be had, or is damaged.
    """
    run = runs_root() / RUN
    run.mkdir(parents=True, exist_ok=True)
    placed, kept = [], []
    with tempfile.TemporaryDirectory(dir=run.parent, prefix=".release-") as name:
        folder = Path(name)
        _extract(fetch(place, folder), folder / "new")
        for path in sorted((folder / "new" / RUN).iterdir()):
            if before and path.name >= before:
                continue
            if (run / path.name).exists():
                kept.append(path.name)
            else:
                path.rename(run / path.name)
                placed.append(path.name)
    return placed, kept


def _extract(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder and compare every file with its checksum."""
    damaged = CourseError(f"the release archive {archive.name} is damaged: fetch it again")
    found: dict[str, str] = {}
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                inside = PurePosixPath(entry.name)
                if not entry.isfile() or inside.is_absolute() or ".." in inside.parts:
                    raise damaged
                data = tar.extractfile(entry).read()
                found[entry.name] = _sha(data)
                target = folder / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
    except (tarfile.TarError, lzma.LZMAError, EOFError):
        raise damaged from None
    if found.pop(SUMS, None) is None:
        raise damaged
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    if {name: digest for digest, _, name in (line.partition("  ") for line in lines)} != found:
        raise damaged


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
