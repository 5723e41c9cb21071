"""Parts of inner sessions in which tests run out of memory, kill the device, or hang."""

from __future__ import annotations

# Workers import what stands for torch, in a fraction of the time; the process of this suite has torch itself.
TORCH = """
    import sys, types
    if "torch" not in sys.modules:
        class OutOfMemoryError(RuntimeError): ...
        sys.modules["torch"] = types.ModuleType("torch")
        sys.modules["torch"].cuda = types.SimpleNamespace(
            OutOfMemoryError=OutOfMemoryError, is_initialized=lambda: False, synchronize=lambda: None
        )
"""

# Memory of 100 pretended bytes, which is free again when what holds it is gone.
POOL = (
    TORCH
    + """
    import weakref
    import pytest, torch

    class Held: ...

    class Pool:
        left = 100
        def take(self, size):
            if size > self.left:
                raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size}, {self.left} left")
            self.left -= size
            held = Held()
            weakref.finalize(held, self.give, size)
            return held
        def give(self, size):
            self.left += size

    POOL = Pool()

    @pytest.fixture
    def take():
        return POOL.take
"""
)

# A device on which, once it is dead, nothing runs.
DEVICE = (
    TORCH
    + """
    import pytest, torch

    class Device:
        dead = ""
        def run(self):
            if self.dead:
                raise RuntimeError(self.dead)

    DEVICE = Device()

    def pytest_configure():
        torch.cuda.is_initialized = lambda: True
        torch.cuda.synchronize = DEVICE.run

    @pytest.fixture
    def device():
        return DEVICE
"""
)

# Native code that comes back from nothing, not even a signal: with the interpreter's lock (PyDLL) and without (CDLL).
HANGS = """
    import ctypes

    def hang(library):
        mutex = ctypes.create_string_buffer(64)
        library(None).pthread_mutex_lock(mutex)
        library(None).pthread_mutex_lock(mutex)
"""
