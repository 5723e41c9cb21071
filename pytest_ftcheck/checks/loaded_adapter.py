"""The check that an adapter loaded beside the one that trains leaves that one alone."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.names import active_adapters, first_few_of, trainable_names
from ..scratch import prefix
from .check import Finding, check
from .sabotages.loaded_adapter import LOADING_FREEZES
from .start import refuse_moving_init

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence


@check(
    "loading-an-adapter-changes-nothing",
    "parameters",
    "where a recipe has several adapters, one that is loaded for inference changes no tensor and no flag of the model",
    controls=[LOADING_FREEZES],
    catches=["https://github.com/huggingface/peft/issues/2115"],
    applies="adapter",
    cost="model",
)
def loading_an_adapter_changes_nothing(evidence: Evidence) -> Iterator[Finding]:
    import torch

    refuse_moving_init(evidence)
    model, first = _peft_model(evidence)
    tensors, trainable = _tensors(model), trainable_names(model)
    _load_beside(model, first)
    after, now = _tensors(model), trainable_names(model)
    changed = [name for name, tensor in tensors.items() if name not in after or not torch.equal(tensor, after[name])]
    events = {
        "changed": changed,
        "no longer train": sorted(trainable - now),
        "began to train": sorted(now - trainable),
    }
    for what, names in events.items():
        if names:
            yield Finding(
                summary=f"{len(names)} of {len(tensors)} tensors {what} when an adapter is loaded for inference",
                cause="load_adapter() sets the flags, or the weights, of more than the adapter that it loads",
                remedy="call set_adapter with the one that trains after loading, look at its flags, or use another "
                "release of peft",
                evidence=(first_few_of(names),),
            )


def _peft_model(evidence: Evidence) -> tuple[Any, str]:
    model: Any = evidence.moved_model()
    active = active_adapters(model)
    if not hasattr(model, "load_adapter") or not hasattr(model, "peft_config") or len(active) != 1:
        raise NotApplicable("the model is not PEFT's with one active adapter")
    first = next(iter(active))
    if len(evidence.trace.model.peft_config) < 2:  # type: ignore[arg-type]
        raise NotApplicable("the recipe uses one adapter only")
    if getattr(model.peft_config[first], "is_prompt_learning", False):
        raise NotApplicable("PEFT holds one prompt at a time")
    return model, first


def _load_beside(model: Any, first: str) -> None:
    """Save the adapter, and load it beside itself under a name that begins as its own does."""
    with tempfile.TemporaryDirectory(prefix=prefix()) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.save_pretrained(folder)
            inside = os.path.join(folder, first)
            model.load_adapter(inside if os.path.isdir(inside) else folder, adapter_name=f"{first}_too")
        except Exception as error:
            # That it cannot be saved or loaded at all is what the checks of saving say.
            raise NotApplicable(f"the adapter cannot be saved and loaded: {str(error).splitlines()[:1]}") from None


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
