"""Build the release archive from the run `nano`: ``make release``.

    python -m tools.release

It and its checksum are written to ``runs/release``, to be attached to the release on GitHub
that has this version's tag.
"""

from __future__ import annotations

import sys

from trlm_utils import release, repository
from trlm_utils.files import CourseError, runs_root, shown


def main() -> int:
    """Build the archive, print its size and checksum; returns the exit status."""
    try:
        archive = release.build(runs_root() / release.RUN, runs_root() / "release")
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{shown(archive)}: {archive.stat().st_size / 2**20:.1f} MiB")
    print((archive.parent / release.SUMS).read_text().strip())
    print(f"attach both files to the release {repository.tag()} of {repository.address()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
