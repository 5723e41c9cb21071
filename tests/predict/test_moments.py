from __future__ import annotations

import types
from typing import Any

import pytest

from pytest_ftcheck.observers.memory import Event
from pytest_ftcheck.predict.moments import moments, pattern
from pytest_ftcheck.predict.prediction import Moment
from pytest_ftcheck.predict.timeline import Origin


def log(*events: Event, updates: int = 2, categories: dict[int, str] | None = None, **changes: Any) -> Any:
    """What ``moments`` reads of a timeline. Storages are made by ``aten::mm`` in ``layers.N``, N their number."""
    origin = {event.storage: Origin("aten::mm", f"layers.{event.storage}", "float32") for event in events}
    return types.SimpleNamespace(events=events, update=updates, origin=origin, category=categories or {}, **changes)


def by_phase(timeline: Any, owners: dict[int, str] | None = None) -> dict[str, Moment]:
    return {moment.phase: moment for moment in moments(timeline, owners or {})}


STEP = (
    Event(1, 100, "forward", 1),
    Event(2, 30, "forward", 1),
    Event(2, -30, "forward", 1),
    Event(3, 20, "backward", 1),
    Event(1, -100, "backward", 1),
    Event(4, 5, "optimizer", 1),
)


def test_each_phase_has_its_highest_point() -> None:
    found = by_phase(log(*STEP))
    assert list(found) == ["forward", "saved", "backward", "optimizer"]
    assert [moment.bytes for moment in found.values()] == [130, 100, 120, 25]


def test_only_the_last_update_counts() -> None:
    first = (Event(9, 1000, "forward", 0), Event(9, -1000, "backward", 0))
    assert by_phase(log(*first, *STEP))["forward"].bytes == 130


def test_what_earlier_updates_left_counts() -> None:
    assert by_phase(log(Event(9, 1000, "optimizer", 0), *STEP))["forward"].bytes == 1130


def test_saved_is_what_the_last_micro_batch_left() -> None:
    first = tuple(Event(e.storage + 10, e.bytes, e.phase, 1) for e in STEP if e.phase != "optimizer")
    found = by_phase(log(*first, *STEP))
    # 20 bytes of the first one's gradients are there still.
    assert found["saved"].bytes == 120


def test_a_phase_in_which_nothing_happened_is_absent() -> None:
    assert list(by_phase(log(Event(1, 100, "forward", 1)))) == ["forward"]


def test_the_parts_of_a_moment_add_up() -> None:
    for moment in moments(log(*STEP, categories={1: "activations", 3: "gradients"}), {}):
        assert sum(held.bytes for held in moment.held) == moment.breakdown.total == moment.bytes


def test_layers_are_taken_together_the_largest_first() -> None:
    held = by_phase(log(*STEP))["backward"].held
    assert [(one.module, one.op, one.count, one.bytes) for one in held] == [("layers.*", "aten::mm", 2, 120)]


def test_a_gradient_is_its_parameters_wherever_it_was_made() -> None:
    timeline = log(*STEP, categories={3: "gradients"})
    held = by_phase(timeline, {3: "base_model.model.layers.3.q_proj.lora_A.default"})["optimizer"].held
    assert [(one.category, one.module) for one in held if one.category == "gradients"] == [
        ("gradients", "layers.*.q_proj.lora_A")
    ]


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        ("", ""),
        ("model.layers.3.mlp", "model.layers.*.mlp"),
        ("base_model.model.model.layers.3.self_attn.q_proj.lora_A.default", "model.layers.*.self_attn.q_proj.lora_A"),
        ("base_model.model.transformer.h.0.attn.c_attn.base_layer", "transformer.h.*.attn.c_attn"),
        ("_orig_mod.layers.10", "layers.*"),
    ],
)
def test_a_module_is_shown_as_before_adaptation_with_stars_for_layers(module: str, shown: str) -> None:
    assert pattern(module) == shown
