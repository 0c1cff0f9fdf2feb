"""An accelerator that exists only in Python, to rehearse the path of a GPU without one.

A tensor of the device ``rehearsal:0`` holds a tensor of the CPU, computes with the CPU's
kernels, and refuses to meet tensors of the CPU where CUDA would refuse. So every tensor
that a notebook leaves on the wrong device is found on a machine without a GPU. Speed,
memory and half precision of a real card are not rehearsed (``make gpu`` looks at those).
Not there at all: generators of the device (``torch.Generator(device=...)``), pinned memory,
``torch.load(map_location="rehearsal:0")`` and ``torch.accelerator``'s memory functions, which
need a backend in C++; each raises. Saved files hold tensors of the CPU.

accelerate, and with it every trainer of TRL, takes the device from the variable
``ACCELERATE_TORCH_DEVICE=rehearsal:0``. `enable` registers it in a process;
``sitecustomize.py`` beside this file does so wherever ``TRLM_REHEARSAL`` is set.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from rehearsal.module import MEMORY, Module

NAME = "rehearsal"
aten = torch.ops.aten
# What moves values between devices.
COPIES = {aten.copy_.default, aten._copy_from.default, aten._to_copy.default}
# Operations that take indices from the CPU, as CUDA does: operation -> place of the indices.
INDEXED = {aten.index.Tensor: 1, aten.index_put_.default: 1, aten.index_put.default: 1}
INDEXED |= {aten._index_put_impl_.default: 1}


class HeldTensor(torch.Tensor):
    """A tensor of the device: a shell around ``held``, a tensor of the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> HeldTensor:
        shell = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        shell.held, shell.share = held, MEMORY.hold(held)
        return shell

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN206
        return run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"{NAME}({self.held!r})"

    @property
    def data(self) -> torch.Tensor:
        """The tensor without its history."""
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value: HeldTensor) -> None:
        """Hold what another tensor of the device holds, in its shape and type."""
        if not isinstance(value, HeldTensor):
            raise TypeError(f"a tensor of {NAME}:0 cannot take the data of one of the CPU")
        torch.Tensor.data.__set__(self, value)
        self.held, self.share = value.held, MEMORY.hold(value.held)

    def follow(self) -> None:
        """Take the shape and storage that an operation gave to the held tensor in place."""
        self.data = HeldTensor(self.held)

    def __format__(self, spec: str) -> str:
        return format(self.held.item() if self.dim() == 0 else self.held, spec)

    def untyped_storage(self) -> Any:
        """Of the held tensor: whoever looks for shared weights compares storages."""
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        """Of the held tensor."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """The values, as from any device."""
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refused, as on CUDA: ``.cpu()`` comes first."""
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu()")

    __array__ = numpy

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.held.detach().__reduce_ex__(protocol)  # files hold tensors of the CPU

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldTensor:
        copy = HeldTensor(self.held.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        memo[id(self)] = copy
        return copy


def attention(
    query,
    key,
    value,
    mask=None,
    dropout=0.0,
    causal=False,
    *,
    scale=None,
    enable_gqa=False,
):
    """Scaled dot-product attention: fused where the CPU's is, so that both give the same digits.

    torch chooses in C++, where no backend of Python's is asked, and would write it out.
    """
    learned = mask is not None and mask.requires_grad
    if dropout or learned or enable_gqa or query.dim() != 4:
        settings = {"scale": scale, "enable_gqa": enable_gqa}
        written_out = aten._scaled_dot_product_attention_math
        return written_out(query, key, value, mask, dropout, causal, **settings)[0]
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    fused = aten._scaled_dot_product_fused_attention_overrideable
    return fused(query, key, value, mask, 0.0, causal, False, scale=scale)[0]


def _attend(query, key, value, bias=None, dropout=0.0, causal=False, debug=False, *, scale=None):
    """The CPU's fused attention, with the results that a backend's own attention has."""
    out, sums = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout, causal, attn_mask=unwrapped(bias), scale=scale
    )
    none = torch.empty(0)
    lengths = (query.shape[2], key.shape[2])
    return out, sums, none, none, *lengths, none.long(), none.long(), none


def _attend_back(grad, query, key, value, bias, needed, out, sums, *others, scale=None):
    """Its gradients; none for the bias, which the CPU's kernel refuses to differentiate."""
    dropout, causal = others[4], others[5]
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, query, key, value, out, sums, dropout, causal, attn_mask=bias, scale=scale
    )
    return *grads, torch.empty(0)


ATTENTION = {
    aten._scaled_dot_product_fused_attention_overrideable.default: _attend,
    aten._scaled_dot_product_fused_attention_overrideable_backward.default: _attend_back,
}


def unwrapped(value: Any) -> Any:
    """Arguments of an operation with held tensors in place of their shells."""
    if isinstance(value, HeldTensor):
        return value.held
    if isinstance(value, list | tuple):
        return type(value)(map(unwrapped, value))
    return value


def wrapped(value: Any) -> Any:
    """Results of an operation, as tensors of the device."""
    if isinstance(value, torch.Tensor):
        return value if isinstance(value, HeldTensor) else HeldTensor(value)
    if isinstance(value, list | tuple):
        return type(value)(map(wrapped, value))
    return value


def tensors_of(value: Any) -> list[torch.Tensor]:
    """All tensors among the arguments of an operation."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors_of(part)]
    return []


class Facts(NamedTuple):
    """What the schema of an operation says: which arguments it writes to, and if any."""

    positions: tuple[int, ...]
    names: tuple[str, ...]
    mutable: bool


@functools.cache
def facts(func: Any) -> Facts:
    """Facts of an operation, looked up once."""
    written = [
        (place, argument)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    positions = tuple(place for place, argument in written if not argument.kwarg_only)
    names = tuple(argument.name for _, argument in written)
    return Facts(positions, names, func._schema.is_mutable)


def targets(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that an operation writes to."""
    known = facts(func)
    values = [args[place] for place in known.positions if place < len(args)]
    return tensors_of(values + [kwargs[name] for name in known.names if name in kwargs])


def refuse_strangers(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise where a tensor of the device meets one of the CPU, as CUDA does.

    CUDA accepts tensors of the CPU that hold one number, where they are only read and not
    stacked, and indices into its own tensors.
    """
    checked = list(args)
    if func in INDEXED and isinstance(args[0], HeldTensor):
        checked[INDEXED[func]] = None
    found = tensors_of([*checked, *kwargs.values()])
    strangers = [t for t in found if not isinstance(t, HeldTensor)]
    if len(strangers) == len(found) or not strangers:  # all on one side
        return
    scalars = func is not aten.stack.default and not any(t.dim() for t in strangers)
    written = [t for t in targets(func, args, kwargs) if not isinstance(t, HeldTensor)]
    if not scalars or written or (func in INDEXED and not isinstance(args[0], HeldTensor)):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME}:0 and cpu! (in {func})"
        )


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation of which some tensor, or the result, is of the device."""
    if func not in COPIES:
        refuse_strangers(func, args, kwargs)
    if func is aten._copy_from.default:  # the CPU has no kernel of that name
        source, target = args[:2]
        unwrapped(target).copy_(unwrapped(source))
        return target
    if func in ATTENTION:
        return wrapped(ATTENTION[func](*map(unwrapped, args), **kwargs))
    target = torch.device(NAME, 0)
    if func is aten._to_copy.default and not isinstance(args[0], HeldTensor):
        target = torch.device("cpu")
    if kwargs.get("device") is not None:
        target = torch.device(kwargs["device"])
        kwargs = kwargs | {"device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = kwargs | {"pin_memory": False}
    given = [unwrapped(value) for value in args]
    result = func(*given, **{name: unwrapped(value) for name, value in kwargs.items()})
    if facts(func).mutable:
        return _written(targets(func, args, kwargs), result)
    if func is aten.detach.default or target.type == NAME:
        return wrapped(result)
    return result


def _written(written: list[torch.Tensor], result: Any) -> Any:
    """The result of an operation that writes into its arguments: those themselves."""
    shells = [t for t in written if isinstance(t, HeldTensor)]
    for shell in shells:
        if _layout(shell) != _layout(shell.held):
            shell.follow()
    return _owned(result, {id(shell.held): shell for shell in shells})


def _owned(value: Any, owners: dict[int, HeldTensor]) -> Any:
    """A result with the shells that hold its parts; new shells around the rest."""
    if isinstance(value, list | tuple):
        return type(value)(_owned(part, owners) for part in value)
    owner = owners.get(id(value))
    return wrapped(value) if owner is None else owner


def _layout(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What an operation may change of a tensor in place, its values aside."""
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def _kernel(func: Any, *args: Any, **kwargs: Any) -> Any:
    """The kernel of every operation that reaches the device without a tensor of it."""
    return run(func, args, kwargs)


# Operations that need a kernel of their own: copies, which torch.tensor calls where fallbacks
# are not looked up, and those that would first make an empty tensor and then change its shape.
MADE = ("empty.memory_format", "empty_strided", "_copy_from", "_local_scalar_dense")
MADE += ("arange", "arange.start", "arange.start_step", "linspace", "randperm", "eye", "eye.m")


def _maker(name: str) -> Any:
    packet, _, overload = name.partition(".")
    func = getattr(getattr(aten, packet), overload or "default")
    return lambda *args, **kwargs: run(func, args, kwargs)


# What autocast computes in half precision; everything else keeps the types it is given.
HALVED = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm")


def _halved(name: str) -> Any:
    """The kernel of an operation under autocast: the same, of arguments in its type."""
    func = getattr(aten, name).default
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(torch.get_autocast_dtype(NAME))
        return value

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(key):
            return func(*map(cast, args), **kwargs)

    return kernel


_libraries: list[Any] = []  # registrations end with the objects that made them


def enable() -> None:
    """Register the device in this process; does nothing the second time."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    # Module.to replaces the parameters of such a tensor type, and so unties tied embeddings and
    # loses an optimizer's parameters; swapped, they stay the same objects, as on CUDA.
    torch.__future__.set_swap_module_params_on_conversion(True)
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(_kernel, "PrivateUse1")
    made = torch.library.Library("aten", "IMPL")
    for name in MADE:
        made.impl(name, _maker(name), "PrivateUse1")
    for key in ("AutogradPrivateUse1", "PrivateUse1"):
        made.impl("scaled_dot_product_attention", attention, key)
    # Under autocast: without these, no operation at all has a kernel.
    through = torch.library.Library("_", "IMPL")
    through.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in HALVED:
        made.impl(name, _halved(name), "AutocastPrivateUse1")
    _libraries.extend((everything, made, through))
