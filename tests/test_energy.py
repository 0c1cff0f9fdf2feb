"""Energy: what a machine tells, and nothing where it does not."""

from trlm_utils import energy


def counter(folder, name, microjoules):
    place = folder / name
    place.mkdir(parents=True)
    (place / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_and_their_parts_are_not(tmp_path):
    counter(tmp_path, "intel-rapl:0", 2_000_000)
    counter(tmp_path, "intel-rapl:1", 3_000_000)
    counter(tmp_path, "intel-rapl:0:0", 1_000_000)
    assert energy._packages(tmp_path) == 5.0


def test_a_machine_that_tells_nothing(tmp_path):
    assert energy._packages(tmp_path) is None
    counter(tmp_path, "intel-rapl:0", "denied")
    assert energy._packages(tmp_path) is None


def test_spent():
    assert energy.spent(1.0, 3.5) == 2.5
    assert energy.spent(None, 3.5) is None
    assert energy.spent(3.5, 1.0) is None  # the counter wrapped
