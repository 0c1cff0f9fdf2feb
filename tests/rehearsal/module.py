"""What ``torch.rehearsal`` answers to libraries, and the memory that the device counts."""

from __future__ import annotations

from typing import Any

import torch


class Memory:
    """Bytes that live tensors of the device hold, and their peak."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}  # address of a storage -> tensors that share it
        self.allocated = self.peak = 0

    def hold(self, held: torch.Tensor) -> Share:
        """Count a tensor's storage once, however many tensors are views of it."""
        storage = held.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        self.held[key] = self.held.get(key, 0) + 1
        if self.held[key] == 1:
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
        return Share(self, key, size)

    def release(self, key: int, size: int) -> None:
        """A tensor is gone."""
        self.held[key] -= 1
        if not self.held[key]:
            del self.held[key]
            self.allocated -= size


class Share:
    """A tensor's part in a counted storage; counted until it goes.

    No weak reference to the tensor: torch swaps no tensor that has one.
    """

    __slots__ = ("memory", "key", "size")

    def __init__(self, memory: Memory, key: int, size: int) -> None:
        self.memory, self.key, self.size = memory, key, size

    def __del__(self) -> None:
        self.memory.release(self.key, self.size)


MEMORY = Memory()


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

    def get_rng_state_all(self) -> list[torch.Tensor]:
        """Of every device: there is one."""
        return [self.get_rng_state()]

    def set_rng_state_all(self, states: list[torch.Tensor]) -> None:
        """Of every device: there is one."""
        self.set_rng_state(states[0])

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What autocast may ask for."""
        return [torch.bfloat16, torch.float16]
