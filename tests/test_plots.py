"""Figures: what is drawn is what the table says, and files are written as promised."""

import pandas as pd
import pytest

from trlm_utils import doctor, plots, slide
from trlm_utils.evaluation import arm_plots, ladder_plots, rise_plots
from trlm_utils.rewards import reward_plots


def ladder():
    rows = []
    for band in ("in_distribution", "longer"):
        for k, stage in enumerate(("02_sft_stage1", "06_grpo")):
            for decoding in ("greedy", "sampled"):
                row = {"stage": stage, "seed": 0, "band": band, "decoding": decoding}
                rows.append(row | {"accuracy": 0.2 + 0.5 * k, "low": 0.1, "high": 0.9})
    return pd.DataFrame(rows)


def test_ladder_has_a_panel_per_band_and_draws_the_accuracies():
    figure = ladder_plots.plot_ladder(ladder())
    assert [axis.get_title() for axis in figure.axes] == ["in distribution", "longer"]
    drawn = [list(line.get_ydata()) for line in figure.axes[0].get_lines()]
    assert [20.0, 70.0] in [[round(v, 6) for v in ys] for ys in drawn]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == [
        "sft stage1",
        "grpo",
    ]


def test_flat_bands_are_named_and_not_drawn():
    table = ladder()
    flat = table[table["band"] == "longer"].assign(band="new_family", accuracy=0.04)
    figure = ladder_plots.plot_ladder(pd.concat([table, flat]))
    assert [axis.get_title() for axis in figure.axes] == ["in distribution", "longer"]
    said = [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in figure.texts]
    assert any("not drawn, at most: new family 4 %" in text for text in said)


def test_recipes_have_a_line_from_their_start_to_their_result():
    table = ladder().query("band == 'longer' and decoding == 'sampled'").assign(recipe="tina")
    figure = rise_plots.plot_recipes(table, {"tina": ("02_sft_stage1", "06_grpo")})
    (axis,) = figure.axes
    marks = [round(float(c.lines[0].get_xdata()[0]), 6) for c in axis.containers]
    assert marks == [20.0, 70.0]  # hollow, filled
    assert figure.get_suptitle() == "From start to end, sampled: +50 to +50 points"


def test_figures_are_saved_in_three_forms(tmp_path):
    table = ladder()
    plots.save_figure(ladder_plots.plot_ladder(table), tmp_path / "f" / "ladder", table)
    assert sorted(p.suffix for p in (tmp_path / "f").iterdir()) == [".csv", ".png", ".svg"]
    assert len(pd.read_csv(tmp_path / "f" / "ladder.csv")) == len(table)


def test_the_same_table_gives_the_same_svg(tmp_path):
    for name in ("a", "b"):
        plots.save_figure(ladder_plots.plot_ladder(ladder()), tmp_path / name, ladder())
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_curves_skip_what_was_not_logged():
    log = pd.DataFrame({"step": [1, 2], "loss": [1.0, 0.5]})
    figure = plots.plot_curves(log, {"loss": ["loss"], "kl": ["kl"]})
    assert [len(axis.get_lines()) for axis in figure.axes] == [1, 0]


def test_short_names():
    assert plots.short("02_sft_stage1") == "sft stage1"
    assert plots.short("warmup") == "warmup"


def test_doctor_names_device_and_precision():
    table = doctor.examine().set_index("what")
    assert table.loc["device", "found"] in ("cpu", "cuda", "rocm", "mps")
    assert table.loc["precision", "found"] in ("fp32", "fp16", "bf16")


def test_doctor_says_what_to_do_about_a_missing_package(monkeypatch):
    monkeypatch.setattr(doctor, "package_versions", lambda: {"trl": "not installed"})
    table = doctor.examine().set_index("what")
    assert table.loc["trl", "verdict"] == "pip install -r requirements.txt"


def test_pass_at_k_draws_a_line_per_stage_and_a_panel_per_band():
    rows = [
        {"stage": stage, "band": band, "k": k, "pass_at_k": value, "low": 0.0, "high": 1.0}
        for band in ("a", "b")
        for stage, value in (("04_dpo", 0.25), ("06_grpo", 0.5))
        for k in (1, 2)
    ]
    figure = ladder_plots.plot_pass_at_k(pd.DataFrame(rows))
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert [list(line.get_ydata()) for line in figure.axes[0].get_lines()] == [[25, 25], [50, 50]]


def test_shares_are_stacked():
    table = pd.DataFrame({"stage": ["04_dpo"], "careful": [0.75], "hasty": [0.25]})
    figure = plots.plot_shares(table, "stage", ["careful", "hasty"], "share (%)")
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0.0, 75.0), (75.0, 25.0)]


def test_differences_have_one_panel_for_each_group():
    row = {"decoding": "sampled", "seeds": 5, "low": -4.0, "high": 2.0, "difference": -1.0}
    arms = [("cleaning", "dirty"), ("one kind", "cut"), ("one kind", "near_duplicate")]
    table = pd.DataFrame([row | {"group": group, "arm": arm} for group, arm in arms])
    figure = plots.plot_differences(table)
    assert [axis.get_title() for axis in figure.axes] == ["cleaning", "one kind"]
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == ["cut", "near duplicate"]
    assert "no difference detected" in figure.get_suptitle() and not slide.problems(figure)


def test_rises_are_drawn_in_points():
    row = {"from": "04_dpo", "to": "06_grpo", "band": "a", "decoding": "greedy"}
    table = pd.DataFrame([row | {"difference": 0.1, "low": -0.05, "high": 0.2}])
    figure = rise_plots.plot_rises(table)
    drawn = [x for line in figure.axes[0].get_lines() for x in line.get_xdata()]
    assert 10.0 in [round(float(y), 6) for y in drawn]


def test_seeds_are_averaged_and_their_spread_widens_the_interval():
    rows = [
        {"stage": "06_grpo", "seed": k, "accuracy": a, "low": a - 0.1, "high": a + 0.1}
        for k, a in enumerate((0.49, 0.51))
    ]
    (both,) = plots.over_seeds(pd.DataFrame(rows)).to_dict("records")
    spread, questions = 0.01, 0.1 / plots.stats.Z  # of 0.49 and 0.51: 0.01414 over root 2
    total = spread**2 + questions**2
    t = (spread**2 * 12.7062 + questions**2 * plots.stats.Z) / total  # 1 degree of freedom
    assert both["accuracy"] == pytest.approx(0.5)
    assert both["high"] - 0.5 == pytest.approx(t * total**0.5, rel=1e-5)
    pooled = [row | {"pooled_accuracy": 0.6, "pooled_low": 0.3, "pooled_high": 0.8} for row in rows]
    (both,) = plots.over_seeds(pd.DataFrame(pooled)).to_dict("records")
    assert (both["accuracy"], both["low"], both["high"]) == (0.6, 0.3, 0.8)


def test_accuracy_by_steps_has_a_line_per_stage_at_its_mean():
    rows = [
        {"stage": s, "seed": k, "steps": n, "accuracy": a, "low": a - 0.1, "high": a + 0.1}
        for s, a in (("03_sft_stage2", 0.4), ("06_grpo", 0.8))
        for k in (0, 1)
        for n in (1, 2, 3)
    ]
    axis = ladder_plots.plot_by_steps(pd.DataFrame(rows)).axes[0]
    drawn = [list(c.lines[0].get_ydata()) for c in axis.containers]
    assert [[round(y, 6) for y in ys] for ys in drawn] == [[40.0] * 3, [80.0] * 3]


def test_plain_form_is_drawn_hollow_and_the_base_model_s_best_form_as_a_line():
    forms = {"chat": 0.1, "plain": 0.3}
    rows = [
        {"stage": s, "seed": 0, "band": "longer", "form": f, "decoding": "greedy"}
        | {"accuracy": a, "low": a, "high": a}
        for s, more in (("00_start_here", 0.0), ("06_grpo", 0.5))
        for f, a in {f: a + more * (f == "chat") for f, a in forms.items()}.items()
    ]
    axis = ladder_plots.plot_ladder(pd.DataFrame(rows)).axes[0]
    plain, chat = (container.lines[0] for container in axis.containers)
    assert list(plain.get_ydata()) == [30.0, 30.0] and plain.get_markerfacecolor() == "white"
    assert list(chat.get_ydata()) == [10.0, 60.0]
    (line,) = [one for one in axis.get_lines() if one.get_label() == "base in its best form"]
    assert list(line.get_ydata()) == [30.0, 30.0]


def test_what_is_no_rung_stands_on_the_right_and_is_not_joined_to_the_ladder():
    table = ladder()[lambda t: t["band"] == "longer"].assign(rung=True)
    arm = table[table["stage"] == "06_grpo"].assign(stage="careful_grpo", rung=False)
    axis = ladder_plots.plot_ladder(pd.concat([table, arm])).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()][-1] == "careful grpo"
    lengths = [len(container.lines[0].get_xdata()) for container in axis.containers]
    assert lengths == [2, 1, 2, 1]  # greedy: two rungs, one arm; sampled alike


def test_voting_draws_accuracy_over_tokens_and_averages_seeds():
    rows = [
        {"stage": "06_grpo", "band": "longer", "method": m, "k": k, "tokens": 10.0 * k}
        | {"accuracy": a + 0.1 * seed, "low": 0.1, "high": 0.9, "seed": seed, "n": 50}
        for seed in (0, 1)
        for m, k, a in (("vote", 1, 0.4), ("vote", 2, 0.5), ("best", 1, 0.4), ("best", 2, 0.6))
    ]
    figure = ladder_plots.plot_voting(pd.DataFrame(rows), ["in_distribution", "longer"])
    (axis,) = figure.axes
    drawn = [
        [[round(v) for v in c.lines[0].get_data()[i]] for i in (0, 1)] for c in axis.containers
    ]
    assert drawn == [[[10, 20], [45, 55]], [[10, 20], [45, 65]]]


def arms():
    rows = [
        {"group": g, "arm": arm, "reference": arm == "a", "band": "b", "decoding": "sampled"}
        | {"difference": x, "difference_low": x - 0.1, "difference_high": x + 0.1}
        for g in ("first", "second")
        for arm, x in (("a", float("nan")), ("c", 0.2), ("d", 0.0))
    ]
    return pd.DataFrame(rows)


def test_arms_are_drawn_as_differences_to_the_reference_of_their_group():
    (axis,) = arm_plots.plot_ablations(arms()).axes
    (marks,) = axis.containers
    assert [round(x, 6) for x in marks.lines[0].get_xdata()] == [20.0, 0.0, 20.0, 0.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["c", "d", "c", "d"]
    assert [text.get_text() for text in axis.texts] == ["first, against a", "second, against a"]
    said = axis.figure.get_suptitle().replace("\n", " ")
    assert said == "Higher: 2 arms; no difference detected for 2 of 4 arms"


def test_groups_of_arms_are_divided_into_pages_and_none_is_cut():
    assert arm_plots.ablation_pages(arms(), rows=6) == [["first", "second"]]  # 3 lines each
    assert arm_plots.ablation_pages(arms(), rows=5) == [["first"], ["second"]]
    only = arm_plots.plot_ablations(arms(), groups=["second"]).axes[0]
    assert [text.get_text() for text in only.texts] == ["second, against a"]


def trainings():
    """Two runs of two seeds, 12 steps; the second falls from 0.5 to 0, and has a KL."""
    rows = []
    for seed in (0, 1):
        for step in range(1, 13):
            rows.append({"run": "slow", "seed": seed, "step": step, "right": 0.5 + 0.1 * seed})
            fast = 0.5 if step < 8 else 0.0
            row = {"run": "fast", "seed": seed, "step": step, "right": fast, "kl": step / 10}
            rows.append(row)
    return pd.DataFrame(rows)


def test_trainings_are_drawn_as_means_over_seeds_beside_each_seed():
    figure = arm_plots.plot_trainings(trainings(), {"share right": "right", "KL": "kl"})
    right, kl = figure.axes
    assert len(right.get_lines()) == 2 * (2 + 1)  # two seeds and a mean of each run
    mean = next(line for line in right.get_lines() if line.get_label() == "slow")
    assert list(mean.get_ydata()) == pytest.approx([0.55] * 12)
    assert len(kl.get_lines()) == 3  # one run has no KL
    assert not slide.problems(figure)


def test_the_title_of_trainings_says_where_each_ends():
    said = arm_plots.trainings_message(trainings(), "share right", "right")
    assert said == "Share right at the end: slow: 0.55; fast: 0.00"


def test_hack_bench_marks_what_is_paid_more_and_what_is_paid_the_same():
    rows = [
        {"mix": mix, "behaviour": name, "total": total, "margin": total - 1.0}
        for mix, totals in {"good": (1.0, 0.0, 0.8), "bad": (1.0, 3.0, 1.0)}.items()
        for name, total in zip(("honest and right", "spam", "chat"), totals, strict=True)
    ]
    (axis,) = reward_plots.plot_hack_bench(pd.DataFrame(rows)).axes
    marks = [(text.get_position(), text.get_text()) for text in axis.texts]
    assert marks == [((1, 0), "!"), ((1, 1), "=")]  # column bad, rows spam and chat
    # good: 1.0 of a range of 1.0 below is much less, 0.2 of it is less
    assert axis.images[0].get_array().tolist() == [[0, 3], [1, 2]]
    close = reward_plots.plot_hack_bench(pd.DataFrame(rows), ["good"], close=True)
    assert list(close.axes[0].get_yticklabels()) == []  # nothing there is paid as much
