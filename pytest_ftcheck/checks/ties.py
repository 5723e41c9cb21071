"""Checks of shared weights: what is tied stays tied, and what is not does not become so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..evidence.names import base_parameters, in_base, is_adapters, shared_base
from ..theory.parameters import base_name
from .check import Finding, check
from .sabotages.ties import TIES_CHANGED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence


@check(
    "ties-are-kept",
    "parameters",
    "weights that the base model shares are one tensor after adapting and training, and separate ones stay separate",
    controls=[TIES_CHANGED],
    catches=[
        "https://github.com/huggingface/peft/issues/2018",
        "https://github.com/huggingface/transformers/issues/45127",
    ],
)
def ties_are_kept(evidence: Evidence) -> Iterator[Finding]:
    base = base_parameters(evidence)
    trained, touched = _trained(evidence.trace.model, base)
    yield from _against_config(shared_base(evidence))
    untied = [group for group in _groups(base) if not _are_one(group, trained, touched)]
    if untied:
        size = sum(base[group[0]].numel() for group in untied)
        yield Finding(
            summary=f"{len(untied)} tied weights of {size:,} parameters came apart: {', '.join(untied[0])}",
            cause="a parameter was replaced instead of written to (a new Parameter, load_state_dict(assign=True), a "
            "layer "
            "made anew), and tie_weights() was not called after it",
            remedy="call model.tie_weights() after weights are replaced; each copy now trains by itself, or not at all",
        )
    tied = [group for group in _groups(trained) if len({_place(base[name]) for name in group}) > 1]
    if tied:
        yield Finding(
            summary=f"{len(tied)} pairs of weights became one that the base model holds apart: {', '.join(tied[0])}",
            cause="something tied them (tie_weights under another configuration, a shared module)",
            remedy="set config.tie_word_embeddings to what the base model was made with",
        )


def _trained(model: nn.Module, base: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """The base's parameters in the trained model, by their names in the base, and the modules with an adapter: there a
    tie is broken by design, since what such a module computes is no longer the shared weight.
    """
    found: dict[str, Tensor] = {}
    touched = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        home = in_base(name, base)
        if home is not None:
            found[home] = parameter
        elif is_adapters(name):
            touched.add(base_name(name))
    return found, touched


def _are_one(group: list[str], trained: Mapping[str, Tensor], touched: set[str]) -> bool:
    modules = {base_name(name) for name in group}
    if not all(name in trained for name in group) or modules & touched:
        return True
    return len({_place(trained[name]) for name in group}) == 1


def _groups(parameters: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of one and the same tensor, where there are several."""
    by_place: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        if parameter.numel():
            by_place.setdefault(_place(parameter), []).append(name)
    return [names for names in by_place.values() if len(names) > 1]


def _place(parameter: Tensor) -> int:
    return parameter.data_ptr()


def _against_config(base: nn.Module) -> Iterator[Finding]:
    """The input and output embeddings against what the configuration says of them."""
    config: Any = getattr(base, "config", None)
    declared = getattr(config, "tie_word_embeddings", None)
    text = getattr(config, "get_text_config", lambda: config)()
    if declared is None or getattr(text, "tie_word_embeddings", declared) != declared:
        return  # parts of a composite model, which need not agree
    inputs, outputs = (_embedding(base, way) for way in ("get_input_embeddings", "get_output_embeddings"))
    if inputs is None or outputs is None or inputs.shape != outputs.shape:
        return
    if (_place(inputs) == _place(outputs)) != bool(declared):
        is_now = "two tensors" if declared else "one tensor"
        yield Finding(
            summary=f"tie_word_embeddings is {declared}, and the input and output embeddings are {is_now}",
            cause="the library does not honour the setting for this model, or tie_weights() was not called after "
            "loading",
            remedy="call model.tie_weights(), or set config.tie_word_embeddings to what the checkpoint was trained "
            "with",
        )


def _embedding(model: Any, way: str) -> Tensor | None:
    try:
        weight = getattr(model, way)().weight
    except (AttributeError, NotImplementedError, TypeError):
        return None
    return weight if hasattr(weight, "data_ptr") else None
