"""The rehearsal device where shells could part from what they hold: shapes, types, identity."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rehearsal import device

from trlm_utils import models

device.enable()
THERE = torch.device(device.NAME, 0)
REFUSED = "Expected all tensors to be on the same device"


def there(tensor):
    return tensor.detach().clone().to(THERE)


def assert_same(made, expected):
    """Values, and what the shell says of itself."""
    assert made.device == THERE and made.dtype == expected.dtype
    assert made.shape == expected.shape and made.stride() == expected.stride()
    assert torch.equal(made.cpu(), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.unsqueeze_(0),
        lambda x: x.transpose_(0, 1),
        lambda x: x.t_(),
        lambda x: x.resize_(3, 2),
        lambda x: x.resize_(4, 3).fill_(1),
        lambda x: x.as_strided_((3, 2), (1, 3)),
        lambda x: x.unsqueeze_(0).squeeze_(0).add_(1),
    ],
    ids=["unsqueeze", "transpose", "t", "resize", "grow", "as_strided", "squeeze"],
)
def test_shape_and_strides_follow_a_change_in_place(change):
    here, made = torch.arange(6.0).reshape(2, 3), there(torch.arange(6.0).reshape(2, 3))
    change(here)
    change(made)
    assert_same(made, here)


def test_strides_follow_where_the_shape_stays():
    square = torch.arange(9.0).reshape(3, 3)
    assert_same(there(square).transpose_(0, 1), square.t())


def test_set_takes_another_tensors_storage():
    x, y = there(torch.zeros(2, 3)), there(torch.ones(4))
    x.set_(y)
    y[0] = 5.0
    assert x.tolist() == [5, 1, 1, 1]


def test_data_is_replaced_with_its_values_and_type():
    weight = torch.nn.Parameter(there(torch.zeros(2)))
    weight.data = there(torch.ones(3)).double()
    assert_same(weight.detach(), torch.ones(3, dtype=torch.double))
    with pytest.raises(TypeError, match="CPU"):
        weight.data = torch.ones(3)


@pytest.mark.parametrize(
    ("work", "types"),
    [
        (lambda x, out: torch.add(x, 1, out=out[0]), [torch.float]),
        (lambda x, out: torch.max(x, 1, out=out), [torch.float, torch.long]),
        (lambda x, out: torch.sort(x, out=out), [torch.float, torch.long]),
    ],
    ids=["add", "max", "sort"],
)
def test_out_is_filled_resized_and_returned(work, types):
    x = torch.arange(6.0).reshape(2, 3)
    here = tuple(torch.empty(0, dtype=kind) for kind in types)
    made = tuple(torch.empty(0, dtype=kind, device=THERE) for kind in types)
    work(x, here)
    returned = work(there(x), made)
    assert (returned if isinstance(returned, torch.Tensor) else returned[0]) is made[0]
    for one, other in zip(made, here, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "work",
    [
        lambda x, one: torch.stack([one, x]),
        lambda x, one: one.add_(x),
        lambda x, one: torch.add(x, x, out=one),
    ],
    ids=["stack", "in place", "out"],
)
def test_single_numbers_of_the_cpu_are_refused_where_cuda_refuses_them(work):
    with pytest.raises(RuntimeError, match=REFUSED):
        work(there(torch.tensor(2.0)), torch.tensor(1.0))


def test_a_module_takes_another_type_on_the_device():
    layer = torch.nn.Linear(2, 2).to(THERE).to(torch.bfloat16)
    made = layer(torch.ones(1, 2, device=THERE, dtype=torch.bfloat16))
    assert layer.weight.dtype == made.dtype == made.cpu().dtype == torch.bfloat16


def test_tied_weights_stay_tied_there_and_back(tokenizer):
    model = models.build_model(tokenizer, hidden_size=16, layers=1, heads=2)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    count = len(list(model.parameters()))
    for place in (THERE, "cpu"):
        model.to(place)
        assert model.lm_head.weight is model.model.embed_tokens.weight, place
        assert len(list(model.parameters())) == count


def test_an_optimizer_made_before_the_move_trains_what_was_moved():
    layer = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer.to(THERE)
    before = layer.weight.tolist()[0]
    layer(torch.ones(1, 2, device=THERE)).sum().backward()
    optimizer.step()  # the gradient of the sum is 1 for each weight
    assert layer.weight.tolist()[0] == pytest.approx([w - 1 for w in before])


def test_autocast_halves_what_is_multiplied_and_leaves_the_rest():
    layer, x = torch.nn.Linear(2, 2).to(THERE), torch.ones(1, 2, device=THERE)
    with torch.autocast(device.NAME, dtype=torch.bfloat16):
        made = layer(x)
        assert made.dtype == torch.bfloat16 and (x + 1).dtype == torch.float
    made.sum().backward()
    assert layer.weight.grad.dtype == torch.float and layer.weight.grad.tolist() == [[1, 1]] * 2
    assert layer(x).dtype == torch.float


def test_a_single_number_reads_as_one():
    number = there(torch.tensor(2.5))
    assert f"{number:.2f}" == "2.50" and torch.tensor([number]).tolist() == [2.5]


def test_all_random_states_are_restored():
    module = torch.get_device_module(device.NAME)
    states = module.get_rng_state_all()
    drawn = torch.rand(3, device=THERE).tolist()
    module.set_rng_state_all(states)
    assert torch.rand(3, device=THERE).tolist() == drawn


def test_memory_follows_a_resize_and_what_autograd_saved():
    module = torch.get_device_module(device.NAME)
    gc.collect()
    before = module.memory_allocated()
    x = torch.empty(0, device=THERE).resize_(1000)
    assert module.memory_allocated() - before == 4000
    x.zero_().requires_grad_()
    y = x.exp().sum()  # the exponentials are kept for the backward pass
    assert module.memory_allocated() - before == 8004
    del x, y
    assert module.memory_allocated() == before


@pytest.mark.parametrize(
    ("work", "at"),
    [
        (lambda x: x.softmax(-1), 1e-6),
        (lambda x: x.argmax(-1), 0),
        (lambda x: x.sort(descending=True).values, 0),
        (lambda x: x.gather(1, (x > 0).long()), 0),
        (lambda x: torch.zeros_like(x).scatter_(1, (x > 0).long(), x), 0),
        (lambda x: x.cumsum(-1), 1e-6),
        (lambda x: torch.einsum("ij,kj->ik", x, x), 1e-5),
        (lambda x: torch.quantile(x, 0.5), 1e-6),
        (lambda x: torch.where(x > 0, x, 0.0).nonzero(), 0),
    ],
)
def test_operations_compute_what_they_compute_here(work, at):
    torch.manual_seed(0)
    x = torch.randn(4, 5)
    assert torch.allclose(work(there(x)).cpu(), work(x), atol=at, rtol=0)


def test_a_model_trains_and_generates_as_here(tokenizer):
    """Loss, every gradient and greedy tokens, to 1e-6."""
    found = []
    for place in ("cpu", THERE):
        model = models.build_model(tokenizer, hidden_size=16, layers=2, heads=2).to(place)
        ids = torch.arange(12, device=place).reshape(2, 6)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        model.eval()
        tokens = model.generate(ids, max_new_tokens=5, do_sample=False)
        grads = [p.grad.cpu() for p in model.parameters()]
        found.append((loss.detach().cpu(), grads, tokens.tolist()))
    (loss, grads, tokens), (loss_there, grads_there, tokens_there) = found
    assert torch.allclose(loss, loss_there, atol=1e-6) and tokens == tokens_there
    for one, other in zip(grads, grads_there, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_without_the_variable_python_starts_without_the_device(monkeypatch):
    monkeypatch.delenv("TRLM_REHEARSAL", raising=False)
    folder = str(Path(device.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", folder)
    code = "import sys; print('torch' in sys.modules, 'rehearsal.device' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
    monkeypatch.setenv("TRLM_REHEARSAL", "1")  # torch is not imported early; its import enables
    code += "; import torch; print(torch.ones(1, device='rehearsal:0').device)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "rehearsal:0"], done.stderr
