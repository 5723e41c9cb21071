"""A model of CUDA's caching allocator: one stream, default settings, no expandable segments.

The rules are those of torch 2.11 to 2.13 (c10/cuda/CUDACachingAllocator.cpp, c10/core/AllocatorConfig.h). Memory is
taken from CUDA in *segments*, which are cut into *blocks* and kept when their blocks are free, so ``reserved`` depends
on the order in which tensors come and go. What a model cannot know are the addresses that CUDA gives out, by which the
allocator chooses among blocks of one size: here each segment lies after the ones before it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from ..observers.memory import Event
from .gpu import MIB, Gpu

# Sizes are multiples of so much (kMinBlockSize).
ROUNDING = 512
# Up to here a block comes from the small pool, whose segments are as large as the second (kSmallSize, kSmallBuffer).
SMALL, SMALL_SEGMENT = 1 * MIB, 2 * MIB
# Below the first a large block shares a segment as large as the second (kMinLargeAlloc, large_segment_size); from there
# on it has one of its own, in multiples of the third (kRoundLarge).
SHARED, SHARED_SEGMENT, OWN_ROUNDING = 10 * MIB, 20 * MIB, 2 * MIB


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment; ``before`` and ``after`` are its neighbours there."""

    address: int
    size: int
    pool: Pool
    before: Block | None = None
    after: Block | None = None
    is_free: bool = False


class Pool:
    """The free blocks of the small or the large pool."""

    def __init__(self, least_remainder: int) -> None:
        # A block is cut where at least so much of it is left over.
        self.least_remainder = least_remainder
        # By size and then address; and each by its address, which is its own.
        self._order: list[tuple[int, int]] = []
        self._blocks: dict[int, Block] = {}

    def add(self, block: Block) -> None:
        block.is_free = True
        bisect.insort(self._order, (block.size, block.address))
        self._blocks[block.address] = block

    def remove(self, block: Block) -> None:
        block.is_free = False
        del self._order[bisect.bisect_left(self._order, (block.size, block.address))]
        del self._blocks[block.address]

    def best_fit(self, size: int) -> Block | None:
        """The smallest free block of at least ``size``, out of the pool; None where there is none."""
        index = bisect.bisect_left(self._order, (size, 0))
        if index == len(self._order):
            return None
        block = self._blocks[self._order[index][1]]
        self.remove(block)
        return block

    def release_segments(self) -> int:
        """Give up the segments of which nothing is in use; how many bytes they had."""
        whole = [block for block in self._blocks.values() if block.before is None and block.after is None]
        for block in whole:
            self.remove(block)
        return sum(block.size for block in whole)


class CachingAllocator:
    """What ``torch.cuda.memory_stats()`` would say; all sizes in bytes.

    ``capacity_bytes``: where the GPU has no more, what is cached is given back before more is taken. An allocation that
    does not fit even then is made all the same, so ``reserved_bytes`` says what would have been needed.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        self._small, self._large = Pool(ROUNDING), Pool(SMALL + 1)
        self._end = 0

    def allocate(self, size: int) -> Block:
        """A block of ``size`` bytes, or of more where what is left over is too little to be a block."""
        size = _rounded(size, ROUNDING)
        pool = self._small if size <= SMALL else self._large
        block = pool.best_fit(size) or self._new_segment(segment_bytes(size), pool)
        if block.size - size >= pool.least_remainder:
            _cut(block, size)
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def free(self, block: Block) -> None:
        """Keep the block for later, as one with its free neighbours."""
        self.allocated_bytes -= block.size
        if block.before is not None and block.before.is_free:
            block = _joined(block.before, block)
        if block.after is not None and block.after.is_free:
            block = _joined(block, block.after)
        block.pool.add(block)

    def reset_peaks(self) -> None:
        """Peaks count from now on (``torch.cuda.reset_peak_memory_stats``)."""
        self.peak_allocated_bytes, self.peak_reserved_bytes = self.allocated_bytes, self.reserved_bytes

    def _new_segment(self, size: int, pool: Pool) -> Block:
        if self.capacity_bytes is not None and self.reserved_bytes + size > self.capacity_bytes:
            self.reserved_bytes -= self._large.release_segments() + self._small.release_segments()
        block = Block(self._end, size, pool)
        self._end += size
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return block


def segment_bytes(size: int) -> int:
    """How much is taken from CUDA for a block of ``size`` bytes that no free block fits."""
    if size <= SMALL:
        return SMALL_SEGMENT
    return SHARED_SEGMENT if size < SHARED else _rounded(size, OWN_ROUNDING)


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _cut(block: Block, size: int) -> None:
    """Keep the first ``size`` bytes of the block; the rest becomes a free block after it."""
    rest = Block(block.address + size, block.size - size, block.pool, block, block.after)
    if rest.after is not None:
        rest.after.before = rest
    block.size, block.after = size, rest
    block.pool.add(rest)


def _joined(first: Block, second: Block) -> Block:
    """Two neighbours as one block, which is in no pool."""
    for block in (first, second):
        if block.is_free:
            block.pool.remove(block)
    first.size += second.size
    first.after = second.after
    if first.after is not None:
        first.after.before = first
    return first


@dataclass(frozen=True)
class Replay:
    """The allocator's peaks in the updates after the first, in bytes.

    On one stream ``allocated_bytes`` is ``active_bytes``, too: a block is idle as soon as its tensor has gone.
    """

    allocated_bytes: int
    reserved_bytes: int


def replay(events: Iterable[Event], updates: int, handles_at: Iterable[int], gpu: Gpu) -> Replay:
    """What the allocator of ``gpu`` would have made of ``events``, the log of ``updates`` updates.

    ``handles_at``: before which events cuBLAS got a handle. A handle's workspace is allocated with it and kept
    (aten/src/ATen/cuda/CublasHandlePool.cpp), and cublasLt works in the same one.
    """
    allocator = CachingAllocator(gpu.memory_bytes - gpu.context_bytes)
    blocks: dict[int, Block] = {}
    handles = set(handles_at)
    measured = False
    for index, event in enumerate(events):
        if event.update >= updates:
            break
        if event.update and not measured:
            measured = True
            allocator.reset_peaks()
        if index in handles:
            allocator.allocate(gpu.workspace_bytes)
        if event.bytes > 0:
            blocks[event.storage] = allocator.allocate(event.bytes)
        elif event.bytes < 0:
            allocator.free(blocks.pop(event.storage))
    return Replay(allocator.peak_allocated_bytes, allocator.peak_reserved_bytes)
