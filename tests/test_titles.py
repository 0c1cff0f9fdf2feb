"""Titles say what their tables say, both ways; expected numbers are worked out by hand."""

import pandas as pd
import pytest

from trlm_utils import plots, titles
from trlm_utils.evaluation import ladder_plots, rise_plots
from trlm_utils.rewards import reward_plots


def test_what_a_figure_stands_on():
    assert titles.about(400, 5) == "n 400 questions, 5 seeds"
    assert titles.about(0, 1, more="95 % intervals") == "1 seed, 95 % intervals"


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        ((0.084, 0.075, 0.093), "grpo raises accuracy by 8.4 points [7.5, 9.3]"),
        ((-0.035, -0.066, -0.005), "grpo lowers accuracy by 3.5 points [0.5, 6.6]"),
        (
            (0.01, -0.02, 0.04),
            "grpo: no difference detected in accuracy, +1.0 points [-2.0, +4.0]",
        ),
    ],
)
def test_an_effect_is_said_only_where_its_interval_excludes_zero(ends, sentence):
    assert titles.effect("grpo", "accuracy", *ends) == sentence


def test_a_change_of_shares_has_the_interval_of_two_independent_looks():
    # standard error: root of 0.5*0.5/100 + 0.75*0.25/100 = 0.06614; 1.96 of it: 12.96 points
    assert titles.share_change("held out", 0.5, 0.75, 100).endswith("+25.0 points [+12.0, +38.0]")
    assert "no difference detected" in titles.share_change("held out", 0.5, 0.6, 100)


def arms(*ends):
    rows = [
        {"arm": name, "difference": (a + b) / 2, "difference_low": a, "difference_high": b}
        for name, a, b in ends
    ]
    return pd.DataFrame(rows)


def test_arms_are_named_above_below_or_not_told_apart():
    several = arms(("a", 0.1, 0.2), ("b", -0.2, -0.1), ("c", -0.1, 0.1), ("d", -0.1, 0.1))
    expected = "Higher: a; lower: b; no difference detected for 2 of 4 arms"
    assert titles.verdicts(several) == expected
    assert titles.verdicts(arms(("a", -0.1, 0.1), ("b", -0.1, 0.1))) == (
        "No difference detected for any of 2 arms"
    )
    assert titles.verdicts(arms(("a", -0.1, 0.2))) == (
        "a: no difference detected, +5.0 points [-10.0, +20.0]"
    )
    many = arms(*((str(k), 0.1, 0.2) for k in range(4)))
    assert titles.verdicts(many) == "Higher: 4 arms"


def comparisons(low):
    row = {"band": "longer", "form": "chat", "from_form": "chat", "decoding": "sampled"}
    return pd.DataFrame(
        [
            row | {"from": "a", "to": "b", "difference": 0.3, "low": 0.2, "high": 0.4},
            row | {"from": "b", "to": "06_grpo", "difference": 0.1, "low": low, "high": 0.2},
            row | {"from": "a", "to": "06_grpo", "difference": 0.4, "low": 0.3, "high": 0.5},
        ]
    )


@pytest.mark.parametrize(("low", "verb"), [(0.05, "raises"), (-0.05, "no difference detected")])
def test_the_ladder_s_title_is_the_paired_difference_of_its_last_rung(low, verb):
    said = ladder_plots._last_rung(comparisons(low), "longer")
    assert said.startswith("grpo") and verb in said and "10.0 points" in said


def test_the_title_of_rises_follows_the_intervals():
    figure = rise_plots.plot_rises(comparisons(-0.05))
    assert figure.get_suptitle() == (
        "Longer: sampled higher after b, no difference detected for grpo"
    )


def test_pass_at_k_s_title_has_the_ends_of_its_curves():
    rows = [
        {"stage": stage, "band": "longer", "k": k, "pass_at_k": value, "seed": 0}
        for stage, values in (("04_dpo", (0.2, 0.8)), ("06_grpo", (0.5, 0.75)))
        for k, value in zip((1, 32), values, strict=True)
    ]
    said = ladder_plots.pass_message(pd.DataFrame(rows))
    assert said == "From dpo to grpo, longer: pass@1 20 to 50 %, pass@32 80 to 75 %"


@pytest.mark.parametrize(
    ("voted", "said"),
    [
        (0.9, "Longer: vote of 8 by dpo 90.0 %, one sample of grpo: 80.0 %"),
        (0.7, "Longer: no earlier stage's vote of 8 reaches one sample of grpo: 80.0 %"),
    ],
)
def test_voting_s_title_says_whether_votes_reach_training(voted, said):
    rows = [
        {"stage": stage, "band": "longer", "method": "vote", "k": k, "accuracy": value}
        for stage, values in (("04_dpo", (0.5, voted)), ("06_grpo", (0.8, 0.95)))
        for k, value in zip((1, 8), values, strict=True)
    ]
    assert ladder_plots.voting_message(pd.DataFrame(rows)) == said


def test_how_far_a_stage_reaches_ends_at_the_first_length_below_a_half():
    rows = [
        {"stage": "06_grpo", "steps": k + 1, "form": form, "accuracy": value}
        for form, values in (("chat", (0.9, 0.6, 0.4, 0.7)), ("plain", (1.0, 0.1, 0.1, 0.1)))
        for k, value in enumerate(values)
    ]
    said = ladder_plots.reach_message(pd.DataFrame(rows))
    assert said == "Half or more right up to this many steps: grpo 2"


def curves(paid, wanted):
    rows = [
        {"seed": seed, "step": step, "reward": paid[step], "held_out_accuracy": wanted[step]}
        for seed in (0, 1)
        for step in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("paid", "wanted", "said"),
    [
        ((0.1, 0.9), (0.6, 0.1), "gamed"),
        ((0.1, 0.9), (0.6, 0.8), "rises"),
        ((0.9, 0.1), (0.6, 0.1), "no rise"),
    ],
)
def test_gamed_means_paid_more_and_right_less(paid, wanted, said):
    # a mean of two values is the same at both places: lengthen the curve, so that ends differ
    first, last = curves(paid, wanted), curves(paid, wanted)
    long = [first[first["step"] == 0].assign(step=k) for k in range(5)]
    long += [last[last["step"] == 1].assign(step=k) for k in range(5, 10)]
    assert reward_plots.outcome(pd.concat(long)) == said


def bench(spam):
    rows = [
        {"mix": "mine", "behaviour": name, "total": total, "margin": total - 1.0}
        for name, total in (("honest and right", 1.0), ("spam", spam), ("nothing", 0.0))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("spam", "said"),
    [
        (1.5, "1 of 1 mixes pays a trick more than honest, right work: mine"),
        (1.0, "None of 1 mixes pays a trick more than honest, right work"),
    ],
)
def test_the_bench_s_title_counts_hackable_mixes(spam, said):
    assert reward_plots.plot_hack_bench(bench(spam)).get_suptitle().replace("\n", " ") == said


def test_how_often_right_work_scores_above_wrong_work():
    table = pd.DataFrame({"said": [3.0, 1.0, 2.0, 1.0], "truth": ["right"] * 2 + ["wrong"] * 2})
    # pairs: 3>2, 3>1, 1<2, 1=1: (1 + 1 + 0 + 0.5) / 4
    assert reward_plots.right_above_wrong(table) == 0.625


def test_a_thick_curve_is_the_mean_of_five_values():
    values = pd.Series([0.0, 5.0, 10.0, 0.0, 10.0, 20.0])
    # at the ends over those there are: (0+5+10)/3, (0+5+10+0)/4, ...
    assert plots.smoothed(values).tolist() == [5.0, 3.75, 5.0, 9.0, 10.0, 10.0]


def test_long_curves_are_smooth_over_faint_and_short_ones_as_logged():
    log = pd.DataFrame({"step": range(20), "reward": [k % 2 for k in range(20)]})
    raw, thick = plots.plot_curves(log, {"reward": ["reward"]}).axes[0].get_lines()
    assert list(raw.get_ydata()) == log["reward"].tolist() and raw.get_alpha() < 0.5
    assert list(thick.get_ydata()) == plots.smoothed(log["reward"]).tolist()
    (only,) = plots.plot_curves(log.head(14), {"reward": ["reward"]}).axes[0].get_lines()
    assert list(only.get_ydata()) == [k % 2 for k in range(14)]


def test_a_log_scale_where_asked_for_and_possible():
    log = pd.DataFrame({"step": [1, 2], "loss": [4.0, 0.01], "kl": [0.0, 1.0]})
    panels = {"loss": ["loss"], "kl": ["kl"]}
    figure = plots.plot_curves(log, panels, log_scale=["loss", "kl"])
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]
    assert figure.get_suptitle() == "Loss 4 to 0.01; kl 0 to 1"
    plain = plots.plot_curves(log, panels)
    assert plain.axes[0].get_yscale() == "linear"


def test_shares_of_training_are_drawn_on_the_whole_axis():
    log = pd.DataFrame({"step": [0, 5], "held_out_accuracy": [0.61, 0.69]})
    axis = plots.plot_curves(log, {"held out": ["held_out_accuracy"]}, asked=100).axes[0]
    assert axis.get_ylim()[0] <= 0 and axis.get_ylim()[1] >= 1
    assert "no difference detected" in axis.figure.get_suptitle().replace("\n", " ")
