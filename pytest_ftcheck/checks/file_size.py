"""The check of how many numbers, and how many bytes, the file of an adapter holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import kind_of
from ..evidence.checkpoint import held_in, is_merged_export, writes_an_adapter
from .check import Finding, check
from .sabotages.saving import BASE_BESIDE_THE_ADAPTER, EMPTY_FILE
from .saved_files import embedding_parameters, parameters_of

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.checkpoint import Saved, Tensors
    from ..evidence.evidence import Evidence

# A file of tensors is larger than their bytes by its header: names and shapes, or a zip entry with padding each.
HEADER_BYTES = 4096
HEADER_BYTES_PER_TENSOR = 1024


@check(
    "file-size-follows-from-the-method",
    "saving",
    "the file of an adapter holds the parameters that the method declares, and is no larger than they are",
    controls=[EMPTY_FILE, BASE_BESIDE_THE_ADAPTER],
    catches=["https://github.com/tloen/alpaca-lora/pull/597"],
    applies="adapter",
    cost="model",
)
def file_size_follows_from_the_method(evidence: Evidence) -> Iterator[Finding]:
    save, declared = writes_an_adapter(evidence), evidence.standard.declared
    tensors = save.own_tensors
    if is_merged_export(save):
        raise NotApplicable("saving writes a merged model")
    beside = {str(i): p.detach() for i, p in enumerate(embedding_parameters(save.before))}
    extra = {name for names in held_in(tensors, {**beside, **_projections(save.before)}).values() for name in names}
    counted = sum(tensor.numel() for name, tensor in tensors.items() if name not in extra)
    trained = sum(p.numel() for p in parameters_of(save.before, trainable=True).values())
    # Where something else trains than is declared, the checks of parameters say so.
    if declared is not None and declared.trainable == trained != counted and not _is_pruned(save.before):
        yield Finding(
            summary=f"{counted:,} parameters are in the files instead of the {trained:,} that {declared.label} trains",
            cause="the state dict was taken of something else"
            if counted < trained
            else "what did not train is saved too",
            remedy="save with PeftModel.save_pretrained()",
        )
    yield from _larger_than_its_tensors(save, tensors)


def _projections(model: nn.Module) -> Tensors:
    """VeRA's shared matrices, which are buffers: saved with the adapter unless ``save_projection=False``."""
    parts = ("vera_A", "vera_B")
    return {name: b.detach() for name, b in model.named_buffers() if any(part in parts for part in name.split("."))}


def _is_pruned(model: Any) -> bool:
    """Whether AdaLoRA has taken ranks away: it writes those that are left, and keeps all of them in the model."""
    return any(
        kind_of(config) == "ADALORA" and bool(config.rank_pattern)
        for config in getattr(model, "peft_config", {}).values()
    )


def _larger_than_its_tensors(save: Saved, tensors: Tensors) -> Iterator[Finding]:
    names = {name.partition(": ")[0] for name in tensors}
    on_disk = sum((save.path / name).stat().st_size for name in names)
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if tensors and on_disk > held + HEADER_BYTES + HEADER_BYTES_PER_TENSOR * len(tensors):
        yield Finding(
            summary=f"{on_disk:,} bytes are on disk for tensors of {held:,} bytes",
            cause="slices or views are pickled with the whole storage that they look into",
            remedy="clone() tensors before torch.save, or write safetensors",
        )
