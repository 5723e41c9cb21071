"""Checks of several adapters on one model: adding, switching, deleting, combining, choosing by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import active, config_of, kind_of, moved, refuse_prompts
from ..evidence.names import trainable_names
from ..evidence.precision import distance, precision
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.adapter import ROWS_IGNORED, SWITCHING_IGNORED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence


def others(model: Any, least: int = 1) -> list[str]:
    """The adapters of ``model`` beside the active one. NotApplicable where there are fewer than ``least``: how the
    library handles what a recipe does not do is for the stack audit to try.
    """
    names = [name for name in model.peft_config if name != active(model)]
    if len(names) < least:
        raise NotApplicable(f"the recipe has {len(names) + 1} adapter{'s' if names else ''}")
    return names


def move(model: nn.Module, adapter: str) -> None:
    """Move every parameter of ``adapter`` by a random amount."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".{adapter}." in f"{name}.":
                parameter.add_((0.05 * torch.randn(parameter.shape, generator=generator)).to(parameter))


@check(
    "other-adapters-change-nothing",
    "adapter",
    "of several adapters the active one alone counts; switching away and back, and deleting, leave it as it was",
    controls=[SWITCHING_IGNORED],
    catches=["https://github.com/huggingface/peft/issues/899", "https://github.com/huggingface/peft/issues/2206"],
    applies="adapter",
    cost="model",
)
def other_adapters_change_nothing(evidence: Evidence) -> Iterator[Finding]:
    model, exact = moved(evidence), precision(evidence)
    refuse_prompts(model)
    first, (second, *_) = active(model), others(model)
    yield from _needless_copies(model)
    before, tolerance = exact.logits(model), exact.tolerance()
    trainable = trainable_names(model)
    move(model, second)
    steps: list[tuple[str, Tensor]] = [("training another while it is inactive", exact.logits(model))]
    model.set_adapter(second)
    switched = exact.logits(model)
    model.set_adapter(first)
    steps.append(("switching to another and back", exact.logits(model)))
    strays = trainable_names(model) ^ trainable
    model.delete_adapter(second)
    steps.append(("deleting another", exact.logits(model)))
    for what, found in steps:
        if not distance(found, before) <= tolerance:
            yield Finding(
                summary=f"{distance(found, before):.3g} is how far the active adapter's logits are from before, after "
                f"{what} (rounding: {tolerance:.2g})",
                cause="an adapter shares weights with the active one, or is active together with it",
                remedy="upgrade peft, or load each adapter on a base of its own",
            )
    if distance(switched, before) <= tolerance:
        yield Finding(
            summary=f"{distance(switched, before):.3g} is all that switching to {second!r} changes in the logits "
            f"(rounding: {tolerance:.2g})",
            cause="set_adapter() has no effect: the first adapter stays in use",
            remedy="call set_adapter() on the PeftModel itself, and check model.active_adapter afterwards",
        )
    yield from _strays(strays)


def _strays(strays: set[str]) -> Iterator[Finding]:
    if strays:
        yield Finding(
            summary=f"{len(strays)} parameters begin or cease to train by switching to another adapter and back: "
            f"{first_few(sorted(strays))}",
            cause="switching adapters sets requires_grad of more than the active adapter's parameters",
            remedy="freeze the inactive adapter's parameters after switching, or upgrade peft (0.6 does it)",
        )


def _needless_copies(model: Any) -> Iterator[Finding]:
    """Each adapter copies its own ``modules_to_save``, to which PEFT adds the head of a classification task."""
    for adapter, config in model.peft_config.items():
        meant = tuple(getattr(config, "modules_to_save", None) or ())
        named = [name for name, _ in model.named_parameters() if f".modules_to_save.{adapter}." in f"{name}."]
        copied = sorted({name.split(".modules_to_save.")[0] for name in named})
        surplus = [name for name in copied if not name.endswith(meant)] if meant else copied
        if surplus:
            yield Finding(
                summary=f"{len(surplus)} modules are copied for the adapter {adapter!r}, which does not name them in "
                f"modules_to_save: {first_few(surplus)}",
                cause="it copies the modules_to_save of another adapter as well as its own",
                remedy="upgrade peft (0.15), or expect the memory of a needless trainable copy",
            )


@check(
    "adapter-chosen-by-row",
    "adapter",
    "a batch that names an adapter for each row gives each row what that adapter gives alone",
    controls=[ROWS_IGNORED],
    applies="adapter",
    cost="model",
)
def adapter_chosen_by_row(evidence: Evidence) -> Iterator[Finding]:
    import torch

    model, exact = moved(evidence), precision(evidence)
    refuse_prompts(model)
    if kind_of(config_of(model)) != "LORA":
        raise NotApplicable("PEFT mixes adapters within a batch for LoRA only")
    others(model)
    first, rows = active(model), exact.reference.shape[0]
    tokens = {len(v) for v in evidence.inputs().values() if isinstance(v, torch.Tensor) and v.dim()}
    if tokens != {rows} or rows < 2:
        raise NotApplicable("the inputs are no batch of several rows")
    with model.disable_adapter():
        without = exact.logits(model)
    with_adapter = exact.logits(model)
    names = [first if row % 2 else "__base__" for row in range(rows)]
    try:
        mixed = exact.logits(model, adapter_names=names)
    except Exception as error:
        raise NotApplicable(f"the model does not take adapter_names ({type(error).__name__})") from None
    is_first = torch.tensor([name == first for name in names]).reshape(-1, *[1] * (mixed.dim() - 1))
    difference, tolerance = distance(mixed, torch.where(is_first, with_adapter, without)), exact.tolerance()
    if not difference <= tolerance:
        yield Finding(
            summary=f"{difference:.3g} is the largest difference of a row's logits in a mixed batch from its own "
            f"adapter's (rounding: {tolerance:.2g})",
            cause="adapter_names picks the wrong adapter, scaling or dropout for some rows or layers",
            remedy="upgrade peft, or run each adapter on a batch of its own",
        )
