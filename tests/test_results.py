"""The README's tables: what they say of rises, forms and steps."""

from tools import results

KEY = {"band": "in_distribution", "form": "chat", "decoding": "sampled"}
STAGES = ("00_start_here", "02_sft_stage1")


def report(low=0.05, high=0.15):
    rung = {"band": "in_distribution", "n": 400}
    rise = KEY | {"from": STAGES[0], "to": STAGES[1], "from_form": "chat", "difference": 0.1}
    ladder = [
        rung | {"stage": s, "form": f, "decoding": d, "seed": seed, "accuracy": 0.5 + 0.1 * seed}
        for s in STAGES
        for f in ("chat", "plain")
        for d in ("greedy", "sampled")
        for seed in (0, 1)
    ]
    return {
        "seeds": [0, 1],
        "ladder": ladder,
        "comparisons": [rise | {"low": low, "high": high}],
        "over_base": [rise | {"from_form": "plain", "low": low, "high": high}],
        "stages": [{"stage": s, "seed": 0, "wall_seconds": 30.0} for s in STAGES],
        "by_steps": [],
    }


def test_a_rise_whose_interval_holds_zero_is_called_none():
    found = results.results_table(report(-0.05, 0.25))
    assert "| +10.0 [-5.0, +25.0], no difference detected | 30 |" in found
    assert "no difference" not in results.results_table(report())


def test_both_forms_have_a_column_each_with_mean_and_range_of_the_seeds():
    (line,) = [
        x for x in results.results_table(report()).split("\n") if "02_sft" in x and x[0] == "|"
    ]
    assert line.count("55.0 [50.0 to 60.0]") == 4


def test_the_base_model_s_best_form_is_what_the_last_stage_is_held_against():
    found = results.results_table(report())
    assert "After 02_sft_stage1:" in found
    assert "+10.0 [+5.0, +15.0] against the base model in its best form (plain)" in found


def test_arms_outside_the_ladder_have_a_line_without_seconds_or_rise():
    arm = {"stage": "careful", "seed": 0, "accuracy": 0.9, **KEY}
    assert "| careful |  | 90.0 |  |  |  |  |" in results.results_table(report(), [arm])


def test_arms_with_fewer_seeds_than_the_ladder_say_so():
    arm = {"stage": "careful", "accuracy": 0.9, **KEY}
    one = results.results_table(report(), [arm | {"seed": 0}])
    assert "mean of 2 seeds (careful: 1 seed) [lowest" in one
    both = results.results_table(report(), [arm | {"seed": 0}, arm | {"seed": 1}])
    assert "mean of 2 seeds [lowest" in both


def row(stage, form, steps, checked, n=10, seed=0):
    names = {"stage": stage, "form": form, "decoding": "greedy", "steps": steps, "seed": seed}
    return names | {"accuracy": 1.0, "checked": checked, "n": n}


def test_steps_are_pooled_by_pairs_and_the_base_stands_in_its_best_form():
    """Base, plain: 10 of 10 and 0 of 30 right in every step: a quarter; chat: none."""
    rows = [row("00_start_here", "plain", 1, 1.0), row("00_start_here", "plain", 2, 0.0, n=30)]
    rows += [row("00_start_here", "chat", 1, 0.0), row("06_grpo", "chat", 3, 0.5)]
    lines = results.steps_table(rows)
    base, later = (next(x for x in lines if x.startswith(f"| {s}")) for s in ("00", "06"))
    assert base.startswith("| 00_start_here, best form, greedy | 25.0 |  |")
    assert later.startswith("| 06_grpo, greedy |  | 50.0 |")


def test_shares_are_of_each_seed():
    rows = [row("s", "chat", 1, 1.0), row("s", "chat", 1, 0.5, seed=1)]
    assert results.share_right(rows, "s", "chat", "greedy", (1, 2)) == [1.0, 0.5]


def test_arms_stand_below_their_reference_with_the_difference():
    arm = KEY | {"group": "g", "seeds": 3, "n": 400, "low": 0.4, "high": 0.6, "accuracy": 0.5}
    rows = [arm | {"arm": "teachers", "reference": True}]
    ends = {"difference": 0.1, "difference_low": 0.05, "difference_high": 0.15}
    rows.append(arm | {"arm": "careful", "reference": False, **ends})
    lines = results.arms_table(rows, [("in_distribution", "sampled")]).split("\n")
    assert lines[2:4] == [
        "| teachers | 50.0 [40.0, 60.0] |",
        "| careful | 50.0 [40.0, 60.0]; +10.0 [+5.0, +15.0] |",
    ]
    assert "for other seeds and questions, 3 seeds; 400 questions a band" in lines[-1]
    single = results.arms_table(
        [row | {"seeds": 1} for row in rows], [("in_distribution", "sampled")]
    )
    assert "of the questions, one seed; 400" in single
