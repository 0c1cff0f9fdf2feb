"""Benchmarks: what they count and print (the timing itself is no test)."""

from tools import benchmark, training_benchmark, turns
from trlm_utils import nanoworld


def test_sides_take_turns_after_a_warm_up():
    calls = []
    sides = {name: (lambda name=name: calls.append(name) or 10) for name in "ab"}
    rates = turns.compare(sides, repeats=2)
    assert calls == list("ababab")
    assert [len(values) for values in rates.values()] == [2, 2]


def test_a_line_has_median_and_range():
    assert turns.line("x", [3.0, 1.0, 2.0], "per s").split() == "x 2.0 [1.0, 3.0] per s".split()


def test_number_pairs_are_half_right():
    (pairs,) = benchmark.answer_pairs(None).values()
    right = sum(reply == f"The answer is ${gold}$." for reply, gold in pairs)
    assert 0.4 < right / len(pairs) < 0.6


def test_the_three_settings_build(tmp_path):
    """Renamed options of TRL show here, not after minutes of training."""
    from trl import SFTConfig

    for settings in training_benchmark.training_settings().values():
        options = {k: v for k, v in settings.items() if k not in ("matrix_rate", "lean")}
        SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
    assert nanoworld.BANDS["in_distribution"][1:3] == (1, 4)  # what make_problems draws


def test_a_missing_run_is_one_line(tmp_path, capsys):
    assert benchmark.main(["rollouts", "--run", str(tmp_path)]) == 2
    assert "run `make course` first" in capsys.readouterr().err


def test_seeds_that_are_none_are_refused_before_anything_is_trained(capsys):
    assert benchmark.main(["training", "--seed", "0,x"]) == 2
    assert capsys.readouterr().err == (
        "error: --seed 0,x: write a whole number, or several as 0,1,2\n"
    )
