"""Probes of one adapter: how it starts, how it is switched off, merged and taken off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import NotApplicable
from ...evidence.names import trainable_names
from ..adapters import VARIANTS, adapted, base_of, logits, names, tolerance, trained
from ..breaks import merged_twice, never_disabled, noise_at_the_start
from ..probe import Control, distance, probe

PEFT = "https://github.com/huggingface/peft/"


@probe(
    "adapter-starts-as-the-base",
    "adapter",
    "a new adapter leaves the outputs as they were",
    library="peft",
    cause="the adapter's initialisation is not the identity, or base and adapter do not add up to the weight",
    cases=lambda: names(identity=True),
    control=Control("lora", noise_at_the_start),
    links=[f"{PEFT}issues/1836", f"{PEFT}issues/2103", f"{PEFT}pull/2104"],
)
def starts_as_the_base(name: str, seed: int) -> Iterator[str]:
    expected = logits(base_of(name), name)
    away = distance(logits(adapted(name, seed), name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} from the base model's before any training"


@probe(
    "disabled-adapter-is-the-base",
    "mode",
    "with the adapter disabled, the model is the base model; enabled again, itself",
    library="peft",
    cause="disable_adapter() leaves trained parts in use: the reference of DPO and of a KL term is wrong",
    cases=lambda: names(rewrites=False),
    control=Control("lora-saved-head", never_disabled),
    links=[f"{PEFT}issues/493", f"{PEFT}pull/736"],
)
def disabled_is_the_base(name: str, seed: int) -> Iterator[str]:
    expected, model = logits(base_of(name), name), trained(name, seed)
    if VARIANTS[name].trains_biases:
        raise NotApplicable("the base's own biases are trained, as peft documents")
    before = logits(model, name)
    trainable = trainable_names(model)
    with model.disable_adapter():
        away = distance(logits(model, name), expected)
    if not away <= tolerance(expected, 1e-6):
        yield f"logits with the adapter disabled differ by {away:.2e} from the base model's"
    if not distance(logits(model, name), before) <= tolerance(before, 1e-6):
        yield "after disable_adapter() has ended, the adapter does not compute what it did before"
    if trainable_names(model) != trainable:
        yield "after disable_adapter() has ended, other parameters are trainable than before"


@probe(
    "merged-adapter-computes-the-same",
    "adapter",
    "merging changes no output, and merging twice is merging once",
    library="peft",
    cause="what merging adds to the weight is not what the adapter adds to the output",
    cases=lambda: names(merges=True),
    control=Control("lora", merged_twice),
    links=[f"{PEFT}pull/1355", f"{PEFT}pull/438", f"{PEFT}pull/1588"],
)
def merged_computes_the_same(name: str, seed: int) -> Iterator[str]:
    model = trained(name, seed)
    expected = logits(model, name)
    limit = tolerance(expected)
    model.merge_adapter()
    once = distance(logits(model, name), expected)
    if not once <= limit:
        yield f"logits differ by {once:.2e} after merge_adapter()"
    model.merge_adapter()
    twice = distance(logits(model, name), expected)
    if not twice <= limit and once <= limit:
        yield f"logits differ by {twice:.2e} after merge_adapter() was called twice: the change was added twice"


@probe(
    "unmerged-adapter-restores-the-base",
    "adapter",
    "unmerging restores the base weights and the adapter",
    library="peft",
    cause="unmerge takes off something else than merge has added",
    cases=lambda: names(merges=True),
    links=[f"{PEFT}pull/2775"],
)
def unmerged_restores(name: str, seed: int) -> Iterator[str]:
    model = trained(name, seed)
    expected, before = logits(model, name), _weights(model)
    model.merge_adapter()
    model.unmerge_adapter()
    away = distance(logits(model, name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} after merge_adapter() and unmerge_adapter()"
    moved = {key: distance(value, before[key]) for key, value in _weights(model).items() if key in before}
    worst = max(moved, key=lambda key: moved[key])
    if not moved[worst] <= 1e-4:
        yield f"{worst} is {moved[worst]:.2e} away after merge_adapter() and unmerge_adapter()"


def _weights(model: Any) -> dict[str, Any]:
    return {key: parameter.detach().clone() for key, parameter in model.named_parameters()}


@probe(
    "exported-adapter-computes-the-same",
    "adapter",
    "merge_and_unload() gives a plain model with the adapter's outputs",
    library="peft",
    cause="merging for export drops a part of the adapter (embedding, bias, saved module) or leaves wrappers",
    cases=lambda: names(merges=True),
    links=[f"{PEFT}pull/438", f"{PEFT}pull/1355"],
)
def exported_computes_the_same(name: str, seed: int) -> Iterator[str]:
    model = trained(name, seed)
    expected = logits(model, name)
    merged = model.merge_and_unload()
    away = distance(logits(merged, name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} after merge_and_unload()"
    keys, wanted = set(merged.state_dict()), set(base_of(name).state_dict())
    if keys != wanted:
        odd = sorted(keys ^ wanted)
        yield f"{len(odd)} tensors of the exported model are not the base model's: {', '.join(odd[:3])}"


@probe(
    "safely-merged-adapter-computes-the-same",
    "adapter",
    "safe_merge=True merges what a plain merge does",
    library="peft",
    cause="the safe path of merging is another computation than the plain one",
    cases=lambda: names(merges=True),
    needs="peft>=0.5",
)
def safely_merged(name: str, seed: int) -> Iterator[str]:
    model = trained(name, seed)
    expected = logits(model, name)
    away = distance(logits(model.merge_and_unload(safe_merge=True), name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} after merge_and_unload(safe_merge=True)"


@probe(
    "unloaded-adapter-leaves-the-base",
    "adapter",
    "unload() gives the base model back, to the bit",
    library="peft",
    cause="unload() keeps a trained part, or the base was changed while the adapter was on",
    cases=lambda: names(merges=True, rewrites=False),
    needs="peft>=0.5",
)
def unloaded_is_the_base(name: str, seed: int) -> Iterator[str]:
    if VARIANTS[name].trains_base_parts or VARIANTS[name].config == "LNTuningConfig":
        raise NotApplicable("biases and copies of whole modules stay as trained, as peft documents")
    expected = logits(base_of(name), name)
    away = distance(logits(trained(name, seed).unload(), name), expected)
    if not away <= tolerance(expected, 1e-6):
        yield f"logits differ by {away:.2e} from the base model's after unload()"
