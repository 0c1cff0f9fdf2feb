"""Write the tables of docs/cards_and_machines.md: `python -m tools.cards`.

They are estimates (`trlm_utils/runner/cluster.py`) for GRPO of a 0.5B and a 7B model on GSM8K:
the recipe qwen-gsm8k at full scale, with 64 prompts a step so that 64 ranks can share a batch.
"""

from __future__ import annotations

import sys

from tools.publish import with_block
from trlm_utils.files import PROJECT_ROOT, write_text
from trlm_utils.runner import cluster, estimate, recipes
from trlm_utils.runner.cluster import Cards, Share

PAGE = PROJECT_ROOT / "docs" / "cards_and_machines.md"
CARD = "H100"
SIZES = {"0.5B": "Qwen2.5-0.5B-Instruct", "7B": "Qwen2.5-7B-Instruct"}
# Title of a row: ranks, and whether the model is sharded.
ROWS = {
    "one card": (1, False),
    "8 cards, one machine": (8, False),
    "8 cards, sharded": (8, True),
    "64 cards, 8 machines, sharded": (64, True),
}
COLUMNS = ("", "a rank", "hours", "training", "sampling", "gradients", "bound by")


def grpo(model: str, ranks: int, sharded: bool) -> Share:
    """The estimate of stage 06_grpo on so many cards."""
    values = [f"00_start_here.ARCHITECTURE={model}", "06_grpo.PROMPTS_PER_STEP=64"]
    plan = recipes.load_plan("qwen-gsm8k", "full", 0, values, "runs/x")
    cards = Cards(estimate.GPUS[CARD], ranks, sharded)
    return next(share for share in cluster.of_plan(plan, cards) if share.stage == "06_grpo")


def table(model: str) -> str:
    """A Markdown table: a row for each of `ROWS`."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for title, (ranks, sharded) in ROWS.items():
        share = grpo(model, ranks, sharded)
        cells = [title, f"{share.memory:.0f} GB"]
        if share.memory > estimate.GPUS[CARD].memory:
            cells += ["does not fit", *[""] * 4]
        else:
            hours = [getattr(share, name) for name in COLUMNS[2:6]]
            cells += [*(f"{one:.2f}" for one in hours), share.bound]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page's text with its tables renewed."""
    for name, model in SIZES.items():
        text = with_block(text, name, table(model), "python -m tools.cards")
    return text


def main() -> int:
    """Renew the tables in place."""
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
