"""An accelerator that exists only in Python, to rehearse the path of a GPU without one.

A tensor of the device ``rehearsal:0`` holds a tensor of the CPU, computes with the CPU's
kernels, and refuses to meet tensors of the CPU where CUDA would refuse. So every tensor
that a notebook leaves on the wrong device is found on a machine without a GPU. Speed,
memory and half precision of a real card are not rehearsed (``make gpu`` looks at those).

accelerate, and with it every trainer of TRL, takes the device from the variable
``ACCELERATE_TORCH_DEVICE=rehearsal:0``. `enable` registers it in a process;
``sitecustomize.py`` beside this file does so wherever ``TRLM_REHEARSAL`` is set.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "rehearsal"
aten = torch.ops.aten
# What moves values between devices.
COPIES = {aten.copy_.default, aten._copy_from.default, aten._to_copy.default}
# Operations that take indices from the CPU, as CUDA does: operation -> place of the indices.
INDEXED = {aten.index.Tensor: 1, aten.index_put_.default: 1, aten.index_put.default: 1}
INDEXED |= {aten._index_put_impl_.default: 1}


class Memory:
    """Bytes that live tensors of the device hold, and their peak."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}  # address of a storage -> tensors that share it
        self.allocated = self.peak = 0

    def hold(self, tensor: HeldTensor) -> None:
        """Count a tensor's storage once, however many tensors are views of it."""
        storage = tensor.held.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        self.held[key] = self.held.get(key, 0) + 1
        if self.held[key] == 1:
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
        weakref.finalize(tensor, self.release, key, size)

    def release(self, key: int, size: int) -> None:
        """A tensor is gone."""
        self.held[key] -= 1
        if not self.held[key]:
            del self.held[key]
            self.allocated -= size


MEMORY = Memory()


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
        shell.held = held
        MEMORY.hold(shell)
        return shell

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN206
        return run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"{NAME}({self.held!r})"

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


def refuse_strangers(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise where a tensor of the device meets one of the CPU, as CUDA does.

    CUDA accepts tensors of the CPU that hold one number, and indices into its own tensors.
    """
    checked = list(args)
    if func in INDEXED and isinstance(args[0], HeldTensor):
        checked[INDEXED[func]] = None
    found = tensors_of([*checked, *kwargs.values()])
    ours = [t for t in found if isinstance(t, HeldTensor)]
    strangers = [t for t in found if not isinstance(t, HeldTensor) and t.dim() > 0]
    index_into_cpu = func in INDEXED and not isinstance(args[0], HeldTensor)
    if (ours and strangers) or (ours and index_into_cpu):
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
    if func is aten._fused_sdp_choice.default:
        return 0  # attention written out: the CPU's fused kernel does not know this device
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
    if func._schema.is_mutable:
        return _written(func, args, kwargs, given, result)
    if func is aten.detach.default or target.type == NAME:
        return wrapped(result)
    return result


def _written(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Any], result: Any
) -> Any:
    """The result of an operation that writes into its arguments: those themselves."""
    out = kwargs.get("out")
    target = out if isinstance(out, HeldTensor) else args[0] if args else None
    if isinstance(target, HeldTensor) and target.shape != target.held.shape:
        raise NotImplementedError(f"{func} changes a tensor's shape in place")
    if isinstance(target, HeldTensor) and isinstance(result, torch.Tensor):
        return target
    return wrapped(result) if result is not None else None


class Module:
    """What ``torch.rehearsal`` answers to libraries that ask a device's module."""

    def is_available(self) -> bool:
        """Always."""
        return True

    def device_count(self) -> int:
        """One device."""
        return 1

    def current_device(self) -> int:
        """Its number."""
        return 0

    def set_device(self, device: Any) -> None:
        """There is only one."""

    def synchronize(self, device: Any = None) -> None:
        """Nothing runs behind Python's back."""

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def memory_allocated(self, device: Any = None) -> int:
        """Bytes held now."""
        return MEMORY.allocated

    def max_memory_allocated(self, device: Any = None) -> int:
        """Most bytes held at once since the last reset."""
        return MEMORY.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """Count the peak anew."""
        MEMORY.peak = MEMORY.allocated

    def is_initialized(self) -> bool:
        """Always."""
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers are the CPU's, which torch seeds itself."""

    manual_seed = manual_seed_all

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        """Of the CPU's generator."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        """Of the CPU's generator."""
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What autocast may ask for."""
        return [torch.bfloat16, torch.float16]


def _kernel(func: Any, *args: Any, **kwargs: Any) -> Any:
    """The kernel of every operation that reaches the device without a tensor of it."""
    return run(func, args, kwargs)


# Operations that need a kernel of their own: copies, which torch.tensor calls where fallbacks
# are not looked up, and those that would first make an empty tensor and then change its shape.
MADE = ("empty.memory_format", "empty_strided", "_copy_from")
MADE += ("arange", "arange.start", "arange.start_step", "linspace", "randperm", "eye", "eye.m")


def _maker(name: str) -> Any:
    packet, _, overload = name.partition(".")
    func = getattr(getattr(aten, packet), overload or "default")
    return lambda *args, **kwargs: run(func, args, kwargs)


_libraries: list[Any] = []  # registrations end with the objects that made them


def enable() -> None:
    """Register the device in this process; does nothing the second time."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(_kernel, "PrivateUse1")
    made = torch.library.Library("aten", "IMPL")
    for name in MADE:
        made.impl(name, _maker(name), "PrivateUse1")
    _libraries.extend((everything, made))
