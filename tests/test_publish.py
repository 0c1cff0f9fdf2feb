"""The README's results table: what it says of rises."""

from tools import publish


def report(low, high):
    rung = {"band": "in_distribution", "n": 400, "seed": 0, "accuracy": 0.5}
    stages = ("00_start_here", "02_sft_stage1")
    rise = {"from": stages[0], "to": stages[1], "band": "in_distribution", "decoding": "sampled"}
    return {
        "seeds": [0, 1],
        "ladder": [
            rung | {"stage": s, "decoding": d} for s in stages for d in ("greedy", "sampled")
        ],
        "comparisons": [rise | {"difference": 0.1, "low": low, "high": high}],
        "stages": [{"stage": s, "seed": 0, "wall_seconds": 30.0} for s in stages],
        "pairs": [],
        "over_base": [],
        "by_steps": [],
    }


def test_a_rise_whose_interval_holds_zero_is_called_none():
    found = publish.results_table(report(-0.05, 0.25))
    assert "| +10.0 [-5.0, +25.0], none detected | 30 |" in found
    assert "none detected" not in publish.results_table(report(0.05, 0.15))
