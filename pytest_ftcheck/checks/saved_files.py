"""Checks of the files that saving writes: everything that was trained, nothing else, at the size that follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import active, base_weight, config_of
from ..evidence.checkpoint import held_in, is_merged_export, writes_an_adapter
from ..evidence.evidence import adapters
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.saving import (
    BASE_BESIDE_THE_ADAPTER,
    BASE_SAVED,
    EMPTY_FILE,
    SOME_IN_HALF_PRECISION,
    TENSOR_LEFT_OUT,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.checkpoint import Saved, Tensors
    from ..evidence.evidence import Evidence

# The names by which PEFT knows embeddings (peft.utils.constants of 0.21.2).
SAVED_EMBEDDINGS = ("embed_tokens", "lm_head")


def parameters_of(model: nn.Module, trainable: bool) -> Tensors:
    """The parameters that train, or do not; of several adapters those of the active one, and no originals of copies."""
    inactive = [name for name in getattr(model, "peft_config", {}) if name != active(model)]
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad == trainable
        and ".original_module." not in name
        and not any(f".{other}." in f"{name}." for other in inactive)
    }


@check(
    "every-trained-tensor-is-saved",
    "saving",
    "each tensor that trained is in the files that saving writes",
    controls=[BASE_SAVED, EMPTY_FILE, TENSOR_LEFT_OUT],
    catches=["https://github.com/huggingface/peft/pull/2646", "https://github.com/huggingface/peft/pull/2649"],
    cost="model",
)
def every_trained_tensor_is_saved(evidence: Evidence) -> Iterator[Finding]:
    save = writes_an_adapter(evidence)
    tensors, trained = save.tensors, parameters_of(save.before, trainable=True)
    held = held_in(tensors, trained)
    missing = [name for name, names in held.items() if not names]
    if not missing:
        yield from _embedding_left_out(save)
        return
    if len(missing) == len(held) and not evidence.is_full and is_merged_export(save):
        raise NotApplicable("saving writes a merged model")
    if evidence.is_full and _is_rewritten(save, tensors):
        raise NotApplicable("saving writes the weights in another form, which reloading is compared for")
    others = held_in(tensors, parameters_of(save.before, trainable=False))
    frozen = sum(bool(names) for names in others.values())
    yield Finding(
        summary=f"{len(missing)} of {len(trained)} trained tensors are not in the files: {first_few(missing)}",
        cause=_cause_of_absence(len(tensors), len(missing) == len(trained), frozen),
        remedy="save the model that trained, as it is after training; name heads, resized embeddings and whatever else "
        "trains in modules_to_save",
        evidence=(f"the files hold {len(tensors)} tensors, {frozen} of them frozen weights of the base",),
    )


def _embedding_left_out(save: Saved) -> Iterator[Finding]:
    """PEFT saves the base of an adapted embedding too, since it may have been resized: however its target is spelt."""
    if save.by_recipe or not hasattr(save.before, "peft_config"):
        return
    targets = getattr(config_of(save.before), "target_modules", None)
    tokens = getattr(config_of(save.before), "trainable_token_indices", None)
    if not isinstance(targets, str) or targets == "all-linear" or tokens is not None:
        return
    bases = {
        f"{name}.base_layer.weight": base_weight(module).detach()
        for name, module in adapters(save.before)
        if name.rpartition(".")[2] in SAVED_EMBEDDINGS and hasattr(save.before, "get_input_embeddings")
    }
    left_out = [name for name, names in held_in(save.tensors, bases).items() if not names]
    if left_out:
        yield Finding(
            summary=f"{len(left_out)} embeddings are adapted and not saved with the adapter: {first_few(left_out)}",
            cause=f"saving looks for them by name and does not understand the expression target_modules={targets!r}",
            remedy="name the embedding in a list, pass save_embedding_layers=True, or upgrade peft (0.17.1)",
        )


def _is_rewritten(save: Saved, tensors: Tensors) -> bool:
    """Whether the files hold as many numbers as the model, under names that it does not have: transformers 5 writes
    stacked experts one by one.
    """
    names = set(save.before.state_dict())
    foreign = [name for name in tensors if name.partition(": ")[2] not in names]
    total = sum(p.numel() for p in save.before.parameters())
    return bool(foreign) and sum(tensor.numel() for tensor in tensors.values()) >= total


def _cause_of_absence(count: int, all_missing: bool, frozen: int) -> str:
    if not count:
        return "the files are empty: a state dict that was overridden, or taken of the wrong model"
    if all_missing and frozen:
        return "the base was saved instead of the adapter, so the training is lost"
    return "they train, but saving does not know of them: not in modules_to_save, or left out by name"


@check(
    "nothing-else-is-saved",
    "saving",
    "the file of an adapter holds no frozen weight of the base, and nothing of another adapter",
    controls=[BASE_BESIDE_THE_ADAPTER],
    catches=["https://github.com/huggingface/peft/pull/3282", "https://github.com/oobabooga/textgen/issues/1253"],
    applies="adapter",
    cost="model",
)
def nothing_else_is_saved(evidence: Evidence) -> Iterator[Finding]:
    save = writes_an_adapter(evidence)
    tensors = save.own_tensors
    if is_merged_export(save):
        raise NotApplicable("saving writes a merged model")
    held = held_in(tensors, _frozen_base(save.before))
    surplus = sorted({name for names in held.values() for name in names})
    if surplus:
        size = sum(tensors[name].numel() * tensors[name].element_size() for name in surplus)
        yield Finding(
            summary=f"{len(surplus)} of {len(tensors)} tensors in the files are frozen weights of the base, "
            f"{size:,} bytes: {first_few(surplus)}",
            cause="the whole state is saved, not the adapter's",
            remedy="save with PeftModel.save_pretrained(), or filter with get_peft_model_state_dict()",
        )
    yield from _of_another_adapter(save)


def _frozen_base(model: nn.Module) -> Tensors:
    """Frozen weights of the base but for embeddings, which PEFT saves with an adapter that targets them."""
    embeddings = {id(p) for p in embedding_parameters(model)}
    inside = tuple(f"{name}." for name, _ in adapters(model))
    return {
        name: p.detach()
        for name, p in model.named_parameters()
        if not p.requires_grad
        and id(p) not in embeddings
        and p.dim() > 1  # vectors of ones and zeros are the same in many places
        and (not name.startswith(inside) or ".base_layer." in name)
    }


def embedding_parameters(model: Any) -> list[Tensor]:
    """The frozen parameters of the input and output embeddings."""
    found = []
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        try:
            layer = getattr(model, getter)()
        except (AttributeError, NotImplementedError, TypeError):
            continue
        found += [p for p in layer.parameters() if not p.requires_grad] if layer is not None else []
    return found


def _of_another_adapter(save: Saved) -> Iterator[Finding]:
    """An adapter whose name begins with this one's must not get into its file (``foo`` and ``foobar``)."""
    model: Any = save.before
    if save.adapter_folder is None or len(getattr(model, "peft_config", {})) < 2:
        return
    tensors = save.own_tensors
    for other in set(model.peft_config) - {active(model)}:
        theirs = {n: p.detach() for n, p in model.named_parameters() if f".{other}." in f"{n}." and p.abs().max() > 0}
        surplus = sorted({name for names in held_in(tensors, theirs).values() for name in names})
        if surplus:
            yield Finding(
                summary=f"{len(surplus)} of {len(tensors)} tensors in the file of adapter {active(model)!r} are those "
                f"of {other!r}: {first_few(surplus)}",
                cause="adapters are told apart by a part of their names: saving one saves the other too",
                remedy="give adapters names of which none begins with another, or upgrade peft (0.20)",
            )


@check(
    "saved-in-one-precision",
    "saving",
    "no trained tensor is saved in a lower precision than the rest of what trained in the same dtype",
    controls=[SOME_IN_HALF_PRECISION],
    cost="model",
)
def saved_in_one_precision(evidence: Evidence) -> Iterator[Finding]:
    save = writes_an_adapter(evidence)
    tensors, trained = save.tensors, parameters_of(save.before, trainable=True)
    held = held_in(tensors, trained)
    by_dtype: dict[Any, dict[Any, list[str]]] = {}
    for name, names in held.items():
        for dtype in {tensors[one].dtype for one in names[:1]}:
            by_dtype.setdefault(trained[name].dtype, {}).setdefault(dtype, []).append(name)
    for dtype, found in by_dtype.items():
        lower = {kind: names for kind, names in found.items() if kind.itemsize < dtype.itemsize}
        if lower and len(found) > 1:
            kind, names = next(iter(lower.items()))
            yield Finding(
                summary=f"{len(names)} trained tensors are saved as {kind} and the others as they trained, {dtype}: "
                f"{first_few(names)}",
                cause="some are cast on the way to the file, and lose what training changed below that precision",
                remedy="save every tensor in the dtype that it trained in, or cast all of them on purpose",
            )
