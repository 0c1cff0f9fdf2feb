"""Write the Colab badge and the bootstrap cell into every notebook.

    python -m tools.colab          # writes, after a new notebook, address or version
    python -m tools.colab check    # says which notebooks lack them

The badge stands below the title, the bootstrap cell after the parameters, whose STAGE it
uses. Both are tagged ``colab``, are the same in all notebooks but for the badge's link, and
count neither in a stage's digest nor among the outputs that are published.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from trlm_utils import repository
from trlm_utils.files import PROJECT_ROOT, write_text

NOTEBOOKS = PROJECT_ROOT / "notebooks"
TAG = "colab"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
BOOTSTRAP = """\
# On Colab this fetches the course, what it needs and the earlier stages; elsewhere it does nothing.
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules:
    KEEP_ON_DRIVE = False  # @param {{type: "boolean"}}
    course = Path("course").resolve()
    if not course.exists():
        address = "{address}"
        clone = ["git", "-c", "advice.detachedHead=false", "clone", "-q", "--depth", "1"]
        subprocess.run([*clone, "--branch", "{tag}", address, str(course)], check=True)
    sys.path.insert(0, str(course))
    from trlm_utils import colab

    colab.prepare(STAGE, RECIPE, KEEP_ON_DRIVE)"""


def badge(notebook: str) -> str:
    """The badge's Markdown.

    Args:
        notebook: the notebook's name without ``.ipynb``.
    """
    return f"[![Open in Colab]({BADGE})]({repository.colab_link(notebook)})"


def bootstrap() -> str:
    """The source of the bootstrap cell."""
    return BOOTSTRAP.format(tag=repository.tag(), address=repository.address())


def with_cells(cells: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """A notebook's cells with badge and bootstrap cell; earlier ones are replaced.

    Args:
        cells: cells in the notebook's JSON; the first is its title.
        name: the notebook's name without ``.ipynb``.
    """
    kept = [cell for cell in cells if TAG not in cell["metadata"].get("tags", [])]
    number = name.partition("_")[0]
    places = [i for i, c in enumerate(kept) if "parameters" in c["metadata"].get("tags", [])]
    top = {"cell_type": "markdown", "id": f"{number}-badge", "metadata": {"tags": [TAG]}}
    code = {"cell_type": "code", "execution_count": None, "id": f"{number}-colab"}
    code |= {"metadata": {"tags": [TAG]}, "outputs": []}
    first = places[0] + 1
    return [
        kept[0],
        top | {"source": [badge(name)]},
        *kept[1:first],
        code | {"source": bootstrap().splitlines(keepends=True)},
        *kept[first:],
    ]


def written(path: Path) -> str:
    """The text of a notebook's file as it should be."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"] = with_cells(notebook["cells"], path.stem)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write or ``check``; returns the exit status."""
    if arguments not in ([], ["check"]):
        print("usage: python -m tools.colab [check]", file=sys.stderr)
        return 2
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    stale = [path for path in paths if written(path) != path.read_text(encoding="utf-8")]
    for path in stale:
        print(f"{path.name}: {'lacks the cells for Colab' if arguments else 'written'}")
        if not arguments:
            write_text(path, written(path))
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
