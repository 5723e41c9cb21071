from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pytest_ftcheck.observers.memory import Event
from pytest_ftcheck.predict.allocator import Block, CachingAllocator, Replay, replay, segment_bytes
from pytest_ftcheck.predict.gpu import GPUS, MIB

KIB = 1024
A100 = GPUS["a100"]


def used(*sizes: int) -> CachingAllocator:
    """An allocator from which ``sizes`` have been taken."""
    allocator = CachingAllocator()
    for size in sizes:
        allocator.allocate(size)
    return allocator


def log(*entries: tuple[int, int, int]) -> list[Event]:
    """Events of (storage, bytes, update)."""
    return [Event(storage, size, "forward", update) for storage, size, update in entries]


def test_sizes_are_multiples_of_512_bytes() -> None:
    assert used(1).allocated_bytes == 512
    assert used(512).allocated_bytes == 512
    assert used(513, 1).allocated_bytes == 1024 + 512


@pytest.mark.parametrize(
    ("size", "reserved"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (12 * MIB, 12 * MIB),
        (154_389_504, 74 * 2 * MIB),
    ],
)
def test_a_first_block_takes_a_segment_of_its_class(size: int, reserved: int) -> None:
    assert used(size).reserved_bytes == segment_bytes(size) == reserved


def test_small_blocks_share_a_segment_until_it_is_full() -> None:
    assert used(*[MIB] * 2).reserved_bytes == 2 * MIB
    assert used(*[MIB] * 3).reserved_bytes == 4 * MIB
    assert used(*[512] * 4096).reserved_bytes == 2 * MIB
    assert used(*[512] * 4097).reserved_bytes == 4 * MIB


def test_a_small_block_does_not_come_from_the_large_pool() -> None:
    assert used(2 * MIB, 512).reserved_bytes == 20 * MIB + 2 * MIB


def test_a_large_block_is_cut_only_where_more_than_a_mebibyte_is_left() -> None:
    # Of 12 MiB, 11 leave exactly 1: the block keeps them.
    kept = used(11 * MIB)
    assert (kept.allocated_bytes, kept.reserved_bytes) == (12 * MIB, 12 * MIB)
    cut = used(11 * MIB - 512)
    assert cut.allocated_bytes == 11 * MIB - 512
    # What was left over is used before anything is taken from CUDA.
    cut.allocate(MIB + 512)
    assert (cut.allocated_bytes, cut.reserved_bytes) == (12 * MIB, 12 * MIB)


def test_a_small_block_is_cut_to_the_last_512_bytes() -> None:
    allocator = used(MIB, MIB - 512)
    assert allocator.allocate(512).size == 512
    assert allocator.reserved_bytes == 2 * MIB


def test_the_smallest_free_block_that_fits_is_taken() -> None:
    allocator = CachingAllocator()
    large, small, middle = (allocator.allocate(size * MIB) for size in (40, 20, 30))
    for block in (large, small, middle):
        allocator.free(block)
    assert allocator.allocate(21 * MIB).address == middle.address
    assert allocator.allocate(20 * MIB).address == small.address
    assert allocator.reserved_bytes == 90 * MIB


def test_of_free_blocks_of_one_size_that_with_the_lowest_address_is_taken() -> None:
    allocator = CachingAllocator()
    first, second, third = (allocator.allocate(20 * MIB) for _ in range(3))
    for block in (second, third, first):
        allocator.free(block)
    assert allocator.allocate(20 * MIB).address == first.address


def test_free_neighbours_become_one_block() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved_bytes == 20 * MIB
    # The one between two free ones last.
    for index in (0, 2, 1):
        allocator.free(blocks[index])
    assert allocator.allocate(15 * MIB).address == blocks[0].address
    assert allocator.reserved_bytes == 20 * MIB


def test_free_blocks_that_are_apart_do_not_become_one() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    allocator.free(blocks[0])
    allocator.free(blocks[2])
    allocator.allocate(10 * MIB)
    assert allocator.reserved_bytes == 30 * MIB


def test_segments_that_follow_each_other_do_not_become_one() -> None:
    allocator = CachingAllocator()
    for block in [allocator.allocate(20 * MIB), allocator.allocate(20 * MIB)]:
        allocator.free(block)
    allocator.allocate(40 * MIB)
    assert allocator.reserved_bytes == 80 * MIB


def test_what_is_free_stays_reserved() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(100 * MIB))
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 100 * MIB)
    assert allocator.peak_allocated_bytes == 100 * MIB


def test_a_full_gpu_gives_back_what_is_cached_before_more_is_taken() -> None:
    allocator = CachingAllocator(capacity_bytes=100 * MIB)
    whole, part, rest = allocator.allocate(40 * MIB), allocator.allocate(5 * MIB), allocator.allocate(5 * MIB)
    allocator.free(whole)
    allocator.free(part)
    allocator.allocate(60 * MIB)
    # The segment of 40 MiB went; that of 20 is in use in part, and stayed.
    assert allocator.reserved_bytes == 80 * MIB
    assert allocator.peak_reserved_bytes == 80 * MIB
    allocator.free(rest)
    assert allocator.allocated_bytes == 60 * MIB


def test_a_full_gpu_gives_back_small_segments_too() -> None:
    allocator = CachingAllocator(capacity_bytes=22 * MIB)
    allocator.free(allocator.allocate(512))
    allocator.allocate(22 * MIB)
    assert allocator.reserved_bytes == 22 * MIB


def test_what_does_not_fit_at_all_is_counted_as_needed() -> None:
    allocator = CachingAllocator(capacity_bytes=10 * MIB)
    allocator.allocate(40 * MIB)
    assert allocator.reserved_bytes == 40 * MIB


def traffic(seed: int, steps: int) -> Iterator[tuple[int, int]]:
    """Allocations (number, size) and frees (number, 0) in a random order; at the end nothing is left."""
    drawn = random.Random(seed)
    live: list[int] = []
    for number in range(steps):
        if live and drawn.random() < 0.45:
            yield live.pop(drawn.randrange(len(live))), 0
        # Sizes of all classes, and often the same ones, as in a training.
        yield number, drawn.choice((1, 700, 40 * KIB, MIB, MIB + 1, 3 * MIB, 9 * MIB, 11 * MIB, 25 * MIB + 3))
        live.append(number)
    drawn.shuffle(live)
    for number in live:
        yield number, 0


def segment_of(block: Block) -> list[Block]:
    while block.before is not None:
        block = block.before
    tiles = [block]
    while tiles[-1].after is not None:
        tiles.append(tiles[-1].after)
    return tiles


@pytest.mark.parametrize("seed", range(5))
def test_blocks_tile_their_segments_whatever_happens(seed: int) -> None:
    allocator = CachingAllocator()
    blocks: dict[int, Block] = {}
    for number, size in traffic(seed, 200):
        if size:
            blocks[number] = allocator.allocate(size)
            assert blocks[number].size >= size
        else:
            allocator.free(blocks.pop(number))
        segments = {segment_of(block)[0].address: segment_of(block) for block in blocks.values()}
        for tiles in segments.values():
            assert all(a.address + a.size == b.address and b.before is a for a, b in itertools.pairwise(tiles))
            assert not any(a.is_free and b.is_free for a, b in itertools.pairwise(tiles))
            assert sum(tile.size for tile in tiles) % (2 * MIB) == 0
        live = sum(block.size for block in blocks.values())
        assert allocator.reserved_bytes >= allocator.allocated_bytes == live
    assert allocator.allocated_bytes == 0
    assert allocator.peak_reserved_bytes == allocator.reserved_bytes


class Plain:
    """The same rules, written again as scans over a list of [address, size, free, segment]."""

    def __init__(self) -> None:
        self.blocks: list[list[int]] = []
        self.reserved = 0

    def allocate(self, size: int) -> int:
        size = max((size + 511) // 512, 1) * 512
        small = size <= MIB
        fits = [b for b in self.blocks if b[2] and b[1] >= size and (self.segment_size(b[3]) == 2 * MIB) == small]
        if not fits:
            fresh = 2 * MIB if small else 20 * MIB if size < 10 * MIB else (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
            self.blocks.append([self.reserved, fresh, 1, self.reserved])
            self.reserved += fresh
            fits = self.blocks[-1:]
        block = min(fits, key=lambda b: (b[1], b[0]))
        rest = block[1] - size
        if rest >= 512 if small else rest > MIB:
            self.blocks.append([block[0] + size, rest, 1, block[3]])
            block[1] = size
        block[2] = 0
        return block[0]

    def segment_size(self, segment: int) -> int:
        return sum(b[1] for b in self.blocks if b[3] == segment)

    def free(self, address: int) -> None:
        next(b for b in self.blocks if b[0] == address)[2] = 1
        self.blocks.sort()
        merged: list[list[int]] = []
        for block in self.blocks:
            if merged and block[2] and merged[-1][2] and merged[-1][3] == block[3]:
                merged[-1][1] += block[1]
            else:
                merged.append(block)
        self.blocks = merged


@pytest.mark.parametrize("seed", range(5))
def test_every_block_is_where_a_plain_implementation_puts_it(seed: int) -> None:
    allocator, plain = CachingAllocator(), Plain()
    blocks: dict[int, tuple[Block, int]] = {}
    for number, size in traffic(seed, 200):
        if size:
            blocks[number] = allocator.allocate(size), plain.allocate(size)
            assert blocks[number][0].address == blocks[number][1]
        else:
            block, address = blocks.pop(number)
            allocator.free(block)
            plain.free(address)
        assert allocator.reserved_bytes == plain.reserved


def test_cublas_keeps_a_workspace_for_each_handle() -> None:
    events = log((1, 512, 0), (2, 512, 0), (2, -512, 1), (1, -512, 1))
    without = replay(events, 2, (), A100)
    assert without == Replay(1024, 2 * MIB)
    one = replay(events, 2, (1,), A100)
    # 8,519,680 bytes come from a segment of 20 MiB, of which the rest is free for others.
    assert one == Replay(1024 + 8_519_680, 22 * MIB)
    assert replay(events, 2, (1, 2), A100) == Replay(1024 + 2 * 8_519_680, 22 * MIB)


def test_a_workspace_takes_its_place_when_the_first_matrix_product_is_done() -> None:
    # The block of 19 MiB leaves a hole, into which a workspace fits that comes after it, and not one that came before.
    events = log((1, 19 * MIB, 0), (1, -19 * MIB, 0), (2, 512, 1))
    assert replay(events, 2, (2,), A100).reserved_bytes == 20 * MIB + 2 * MIB
    assert replay(events, 2, (0,), A100).reserved_bytes == 20 * MIB + 2 * MIB + 20 * MIB


def test_peaks_are_those_after_the_first_update() -> None:
    first_higher = log((1, 100 * MIB, 0), (1, -100 * MIB, 0), (2, 30 * MIB, 1), (2, -30 * MIB, 1))
    # What the first update reserved stays.
    assert replay(first_higher, 2, (), A100) == Replay(30 * MIB, 100 * MIB)


def test_what_a_trainer_allocates_after_the_last_update_does_not_count() -> None:
    events = log((1, 20 * MIB, 0), (2, 20 * MIB, 1), (3, 500 * MIB, 2))
    assert replay(events, 2, (), A100) == Replay(40 * MIB, 40 * MIB)


def test_storages_without_bytes_take_nothing() -> None:
    assert replay(log((1, 0, 1), (1, 0, 1)), 2, (), A100) == Replay(0, 0)


def test_a_training_that_fits_only_without_the_cache_is_seen_to_fit() -> None:
    full = replace(A100, memory_bytes=100 * MIB, context_bytes=0)
    events = log((1, 60 * MIB, 1), (1, -60 * MIB, 1), (2, 80 * MIB, 1))
    assert replay(events, 2, (), full).reserved_bytes == 80 * MIB
    assert replay(events, 2, (), A100).reserved_bytes == 140 * MIB
