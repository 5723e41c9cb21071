"""Right implementations over many seeds: nothing may be reported.

``cd tests && python -m lora.false_alarms 50``, with names of implementations after it for some of them alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import hypothesis

from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.lora.adapter import Adapter
from pytest_ftcheck.lora.adapters.peft import PeftAdapter
from pytest_ftcheck.lora.catalogue import all_properties
from pytest_ftcheck.lora.profiles import chosen_profile
from pytest_ftcheck.lora.trying import try_property

from .reference_dora import WideAdapter
from .reference_network import NetworkAdapter

# Cases are drawn in float32, bfloat16, float16 and float64.
RIGHT: tuple[Adapter, ...] = (WideAdapter(), NetworkAdapter(), PeftAdapter())


def alarms(adapter: Adapter, seed: int, examples: int | None = None) -> Iterator[Verdict]:
    """What the properties wrongly report of ``adapter``, with as many cases of each as the profile for CI has."""
    settings = hypothesis.settings(chosen_profile(), max_examples=examples or chosen_profile().max_examples)
    for one in all_properties().values():
        verdict = try_property(one, adapter, seed=seed, settings=settings)
        if verdict.failed:
            yield verdict


def main(seeds: int, names: list[str]) -> int:
    start, found = time.perf_counter(), 0
    chosen = [adapter for adapter in RIGHT if not names or adapter.name in names]
    assert chosen, f"{names} are none of {[adapter.name for adapter in RIGHT]}"
    for seed in range(seeds):
        for adapter in chosen:
            for verdict in alarms(adapter, seed):
                found += 1
                print(f"seed {seed}, {adapter.name}:", *verdict.lines(), sep="\n  ", flush=True)
        print(f"seeds 0 to {seed}: {found} false alarms, {time.perf_counter() - start:.0f} s", flush=True)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
