"""The rehearsal device: it computes what the CPU computes, and refuses what CUDA refuses."""

import copy

import pytest
import torch
from rehearsal import device
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from trlm_utils import generation, models

device.enable()
THERE = torch.device(device.NAME, 0)
REFUSED = "Expected all tensors to be on the same device"


def there(tensor):
    return tensor.detach().to(THERE)


def test_values_survive_the_way_there_and_back():
    values = torch.arange(6).reshape(2, 3)
    assert there(values).device == THERE
    assert torch.equal(there(values).cpu(), values)
    assert there(values).tolist() == values.tolist()


@pytest.mark.parametrize(
    "work",
    [
        lambda x, cpu: x + cpu,
        lambda x, cpu: torch.cat([x, cpu]),
        lambda x, cpu: x @ cpu,
        lambda x, cpu: torch.where(x > 0, x, cpu),
        lambda x, cpu: x.index_put_((torch.tensor([0]),), cpu[:1]),
        lambda x, cpu: cpu[x > 0],
        lambda x, cpu: cpu.gather(0, (x > 0).long()),
        lambda x, cpu: cpu.add_(x),
        lambda x, cpu: torch.nn.functional.embedding(torch.tensor([1]), x),
    ],
    ids=["add", "cat", "matmul", "where", "values", "index", "gather", "in place", "embedding"],
)
def test_a_planted_tensor_of_the_cpu_is_refused(work):
    cpu = torch.ones(3, 3)
    with pytest.raises(RuntimeError, match=REFUSED):
        work(there(cpu), cpu)


def test_what_cuda_accepts_is_accepted():
    x = there(torch.arange(4.0))
    assert (x + torch.tensor(1.0)).tolist() == [1, 2, 3, 4]  # one number
    assert x[torch.tensor([2, 0])].tolist() == [2, 0]  # indices of the CPU
    x[torch.tensor([True, False, False, True])] = 9.0
    assert x.tolist() == [9, 1, 2, 9]
    x.copy_(torch.zeros(4))
    assert x.tolist() == [0, 0, 0, 0]


def test_numpy_needs_the_cpu_first():
    with pytest.raises(TypeError, match="can't convert"):
        there(torch.ones(2)).numpy()
    assert there(torch.ones(2)).cpu().numpy().sum() == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda at: torch.arange(1, 7, 2, device=at),
        lambda at: torch.tensor([1, 2], device=at),
        lambda at: torch.full((2, 2), 3.0, device=at),
        lambda at: torch.eye(3, device=at),
        lambda at: torch.randn(3, device=at),
        lambda at: torch.multinomial(torch.rand(2, 5, device=at), 2),
        lambda at: torch.rand(5, device=at).sort().values,
        lambda at: torch.ones(2, 3, device=at).cumsum(1).view(-1)[1:4],
    ],
)
def test_what_is_made_there_is_what_is_made_here(make):
    torch.manual_seed(0)
    here = make("cpu")
    torch.manual_seed(0)
    made = make(THERE)
    assert made.device == THERE and torch.equal(made.cpu(), here)


def test_views_share_their_memory():
    base = there(torch.zeros(2, 3))
    base[0, 1:].fill_(5.0)
    base.T[0].add_(1.0)
    assert base.tolist() == [[1, 5, 5], [1, 0, 0]]


def trained(at):
    """Loss, gradients and weights of two steps of a small network with attention."""
    torch.manual_seed(0)
    table, layer = torch.nn.Embedding(7, 8).to(at), torch.nn.Linear(8, 7).to(at)
    optimizer = torch.optim.AdamW([*table.parameters(), *layer.parameters()], lr=0.1)
    ids = torch.tensor([[1, 2, 3, 4]], device=at)
    for _ in range(2):
        optimizer.zero_grad()
        x = table(ids)[:, None]
        x = scaled_dot_product_attention(x, x, x, is_causal=True)[:, 0]
        loss = cross_entropy(layer(x)[0, :-1], ids[0, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
        optimizer.step()
    return [loss.detach(), layer.weight.grad, table.weight.detach(), layer.weight.detach()]


def test_training_there_equals_training_here():
    for one, other in zip(trained("cpu"), trained(THERE), strict=True):
        assert torch.allclose(one, other.cpu(), atol=1e-6)


def test_a_language_model_computes_and_samples_the_same(model, tokenizer):
    moved = copy.deepcopy(model).to(THERE)
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        here, elsewhere = model(ids).logits, moved(ids.to(THERE)).logits
    assert torch.allclose(here, elsewhere.cpu(), atol=1e-5)
    drawn = []
    for network in (model, moved):
        found = generation.sample(network, tokenizer, ["a b", "c"], max_new_tokens=6, seed=1)
        drawn.append([s.text for s in found])
    assert drawn[0] == drawn[1]


def test_a_model_is_saved_and_loaded(model, tokenizer, tmp_path, monkeypatch):
    models.save_model(model.to(THERE), tokenizer, tmp_path / "model")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", str(THERE))
    loaded, _ = models.load_model(tmp_path / "model")
    assert loaded.device == THERE
    for one, other in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one.cpu(), other.cpu())


def test_optimizer_states_are_saved_and_loaded(tmp_path):
    weight = torch.nn.Parameter(there(torch.ones(3)))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    fresh = torch.optim.AdamW([weight])
    fresh.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert fresh.state[weight]["exp_avg"].device == THERE


def test_memory_is_counted_by_storage_and_given_back():
    module = torch.get_device_module(device.NAME)
    before = module.memory_allocated()
    module.reset_peak_memory_stats()
    x = torch.zeros(1000, device=THERE)
    view = x[10:]
    assert module.memory_allocated() - before == 4000
    y = x + 1.0
    del y
    assert module.max_memory_allocated() - before >= 8000
    del x
    assert module.memory_allocated() - before == 4000  # the view still holds it
    del view
    assert module.memory_allocated() == before
