"""AMD cards, simulated: what the doctor says of one, and the precision that a probe decides."""

from types import SimpleNamespace

import pytest
import torch

from trlm_utils import doctor, machine, rocm

ALL = {"flash": 1.0, "efficient": 2.0, "math": 30.0}
SLOW = {"flash": None, "efficient": None, "math": 30.0}


@pytest.fixture
def card(monkeypatch):
    """Make torch say that it sees an AMD card of this architecture."""

    def see(
        arch, built=("gfx90a", "gfx1100"), timed=ALL, works=("bfloat16", "float16"), **variables
    ):
        properties = SimpleNamespace(gcnArchName=f"{arch}:sramecc+:xnack-", total_memory=2**34)
        monkeypatch.setattr(torch.version, "hip", "7.1.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: "AMD Radeon")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: properties)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built))
        monkeypatch.setattr(rocm, "time_attention", lambda: timed)
        monkeypatch.setattr(machine, "half_works", lambda name: name in works)
        for name in (rocm.FAST, rocm.OVERRIDE):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return see


def seen():
    """What the doctor says: row -> (found, verdict)."""
    return {row.what: (row.found, row.verdict) for row in doctor.examine().itertuples()}


def test_the_doctor_names_the_architecture_and_the_times(card):
    card("gfx1100")
    rows = seen()
    assert rows["device"] == ("rocm", "ok") and rows["GPU"] == ("AMD Radeon, 16 GiB", "ok")
    assert rows["ROCm"] == ("7.1.0", "ok") and rows["ROCm architecture"] == ("gfx1100", "ok")
    assert rows["attention, flash"] == ("1.0 ms", "ok")
    assert rows[rocm.FAST] == ("not set", "ok")  # not needed where a fast kernel works
    assert rows["precision"] == ("bf16", "ROCm GPU: bf16 was tried on it and is right")


def test_a_missing_switch_is_named_with_what_it_costs(card):
    card("gfx1200", timed=SLOW)
    rows = seen()
    assert rows["attention, flash"] == ("not available", "ok")
    found, verdict = rows[rocm.FAST]
    assert found == "not set" and verdict.startswith(f"set {rocm.FAST}=1: without it")
    assert "11.8 times as slow" in verdict and "PR 8821, August 2026" in verdict
    card("gfx1200", timed=SLOW, **{rocm.FAST: "1"})
    found, verdict = seen()[rocm.FAST]
    assert found == "1" and "no fast kernel for gfx1200" in verdict


@pytest.mark.parametrize(
    "arch, verdict",
    [
        ("gfx90a", "ok"),
        ("gfx1102", "this torch is built for gfx90a, gfx1100 only: set HSA_OVERRIDE_GFX_VERSION="
         "11.0.0, or install a torch built for gfx1102"),
        ("gfx1201", "this torch is built for gfx90a, gfx1100 only"),
    ],
)  # fmt: skip
def test_a_missing_override_is_named_where_there_is_one(card, arch, verdict):
    card(arch)
    assert seen()["ROCm architecture"] == (arch, verdict)


def test_an_override_is_shown(card):
    card("gfx1100", **{rocm.OVERRIDE: "11.0.0"})
    assert seen()[rocm.OVERRIDE] == ("11.0.0", "ok")


@pytest.mark.parametrize(
    "works, precision",
    [(("bfloat16", "float16"), "bf16"), (("float16",), "fp16"), ((), "fp32")],
)
def test_the_probe_chooses_the_precision(card, works, precision):
    card("gfx1151", works=works)
    assert machine.choose_precision(*machine.detect_device()).name == precision


@pytest.fixture
def attention(monkeypatch):
    """Replace attention in half precision; results of the probe are not kept."""
    real = torch.nn.functional.scaled_dot_product_attention

    def replace(half):
        def attend(query, key, value, **how):
            out = real(query, key, value, **how)
            return half(out) if query.dtype != torch.float32 else out

        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
        machine.half_works.cache_clear()

    yield replace
    machine.half_works.cache_clear()


def test_half_precision_that_is_right_passes(attention):
    attention(lambda out: out)
    state = torch.get_rng_state()
    assert machine.half_works("bfloat16")
    assert torch.equal(torch.get_rng_state(), state)  # a run's random numbers are untouched


def test_half_precision_that_is_not_a_number_or_wrong_or_missing_fails(attention):
    attention(lambda out: torch.where(torch.arange(64) == 7, torch.nan, out))
    assert not machine.half_works("bfloat16")
    attention(lambda out: 1.2 * out)
    assert not machine.half_works("bfloat16")

    def missing(out):
        raise RuntimeError("invalid device function")

    attention(missing)
    assert not machine.half_works("bfloat16")


def test_back_ends_are_timed_and_a_missing_one_is_none(monkeypatch):
    """On the CPU, where torch has no memory-efficient attention."""
    monkeypatch.setattr(rocm, "TOKENS", 8)
    found = rocm.time_attention(1)
    assert found["efficient"] is None and found["math"] > 0
    assert [rocm.told(None), rocm.told(12.345)] == ["not available", "12.3 ms"]
