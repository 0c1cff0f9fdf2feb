"""Facts about this machine: how many threads a model gets."""

from types import SimpleNamespace

import pytest
import torch

from trlm_utils import generation, machine


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("parameters", "threads"), [(136_960, 1), (9_999_999, 1), (10_000_000, 4), (135_000_000, 4)]
)
def test_only_a_large_model_gets_more_than_one_thread(monkeypatch, parameters, threads):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    torch.set_num_threads(2)
    model = SimpleNamespace(num_parameters=lambda: parameters)
    assert machine.limit_threads(model) == torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("device", "parameters", "instructions", "name"),
    [
        ("cpu", 135_000_000, {"avx512_bf16": True}, "bf16"),
        ("cpu", 135_000_000, {"amx_bf16": True}, "bf16"),
        ("cpu", 135_000_000, {"avx512_bf16": False, "avx2": True}, "fp32"),
        ("cpu", 136_960, {"avx512_bf16": True}, "fp32"),  # gains nothing
        ("mps", 135_000_000, {"avx512_bf16": True}, "fp32"),
    ],
)
def test_a_large_model_trains_in_bf16_on_a_cpu_that_multiplies_in_it(
    monkeypatch, device, parameters, instructions, name
):
    monkeypatch.setattr(machine, "detect_device", lambda: (device, None))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    model = SimpleNamespace(num_parameters=lambda: parameters)
    assert machine.precision_for(model).name == name


def test_a_torch_that_names_no_instructions_trains_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not machine.multiplies_in_bf16()


def test_the_trainers_take_bf16_on_a_cpu(tmp_path):
    from trl import SFTConfig

    from trlm_utils.training import configuration

    given = machine.Precision(True, False, "a test")
    settings = configuration.common_settings(tmp_path, given, 0)
    config = configuration.make_config(SFTConfig, **settings)
    assert config.bf16 and config.use_cpu and config.mixed_precision == "bf16"


def test_without_a_model_one_thread_is_enough():
    torch.set_num_threads(2)
    assert machine.limit_threads() == 1


def test_what_is_drawn_does_not_depend_on_the_number_of_threads(model, tokenizer):
    """Of 300 completions the last 44 are drawn in a batch of their own, however many cores."""
    prompts = ["3 + 4 is"] * 300
    drawn = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = generation.sample(model, tokenizer, prompts, max_new_tokens=4, seed=0)
        drawn.append([sample.text for sample in found])
    assert drawn[0] == drawn[1]
