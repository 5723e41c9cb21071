"""Checks of saving and loading: what was trained comes back, and saving it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.adapted import active
from ..evidence.checkpoint import (
    Folder,
    SavingFails,
    fingerprint,
    is_merged_export,
    loaded,
    quiet,
    read_tensors,
    save_pretrained,
    saved,
)
from ..evidence.precision import distance, precision
from ..isolation import preserved_settings, seed_everything
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.saving import (
    ALPHA_EDITED,
    BASE_SAVED,
    LOADS_ANOTHER_HEAD,
    NOISE_IN_EACH_SAVE,
    SAVING_MERGES,
    TENSOR_LEFT_OUT,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.checkpoint import Saved
    from ..evidence.evidence import Evidence


@check(
    "reload-gives-the-same-logits",
    "saving",
    "the saved model, loaded again the way that the recipe loads, computes what it computed before",
    controls=[BASE_SAVED, ALPHA_EDITED, TENSOR_LEFT_OUT, LOADS_ANOTHER_HEAD],
    catches=["https://github.com/tloen/alpaca-lora/pull/597", "https://github.com/huggingface/peft/issues/2115"],
    cost="model",
)
def reload_gives_the_same_logits(evidence: Evidence) -> Iterator[Finding]:
    try:
        save, model = saved(evidence), loaded(evidence)
    except SavingFails as failure:
        yield Finding(
            summary=f"1 save and load tried, and {failure}",
            cause="what training produces cannot be written, or what was written cannot be read",
            remedy="save a checkpoint at the start of every training, and load it in a test",
        )
        return
    unfilled = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if unfilled:
        yield Finding(
            summary=f"{len(unfilled)} tensors of the loaded model have no values: {first_few(unfilled)}",
            cause="the file lacks them, and loading left them on the meta device",
            remedy="save the whole state, or fill what is missing before use",
        )
        return
    exact = precision(evidence)
    expected, found = exact.logits(save.before), exact.logits(model)
    difference, tolerance = distance(found, expected), exact.between(save.before, model)
    if not difference <= tolerance:
        base = exact.logits(evidence.base_model())
        yield Finding(
            summary=f"{difference:.3g} is the largest difference of the reloaded model's logits from those saved "
            f"(rounding: {tolerance:.2g})",
            cause=_cause_of_loss(save, model, distance(found, base) <= tolerance),
            remedy="save with the model's own save_pretrained(), load with PeftModel.from_pretrained(base, folder) or "
            "from_pretrained(folder), and compare logits before shipping",
            evidence=_differing(save.before, model),
        )


def _cause_of_loss(save: Saved, model: nn.Module, is_base: bool) -> str:
    count = len(save.tensors)
    if is_base:
        return f"what is loaded is the base: the {count} tensors in the file are not applied, or are the base's own"
    scalings = _scalings(save.before), _scalings(model)
    if all(scalings) and scalings[0] != scalings[1]:
        name = next(key for key in scalings[0] if scalings[0][key] != scalings[1].get(key))
        return f"the adapter's scaling is lost: {name} has {scalings[1].get(name)} instead of {scalings[0][name]:g}"
    return "a tensor that was trained is missing from the file, or loading puts another in its place"


def _scalings(model: nn.Module) -> dict[str, float]:
    """Adapted layer -> the scaling of its active adapter."""
    try:
        name = active(model)
    except (NotApplicable, AttributeError):
        return {}
    layers = [(n, getattr(m, "scaling", None)) for n, m in model.named_modules()]
    return {n: float(scaling[name]) for n, scaling in layers if isinstance(scaling, dict) and name in scaling}


def _differing(before: nn.Module, after: nn.Module) -> tuple[str, ...]:
    """Which tensors of the same name differ, in one line."""
    expected, found = before.state_dict(), after.state_dict()
    shared = [name for name in expected if name in found]
    differing = [name for name in shared if _apart(expected[name], found[name])]
    if not shared:
        return ("the loaded model has no tensor of the same name",)
    return (f"{len(differing)} of {len(expected)} tensors differ after loading: {first_few(differing)}",)


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ, once both are in the coarser of their dtypes."""
    if one.shape != other.shape:
        return True
    coarser = one.dtype if one.dtype.itemsize <= other.dtype.itemsize else other.dtype
    return distance(one.to(coarser), other.to(coarser)) != 0


@check(
    "reload-restores-every-tensor",
    "saving",
    "each tensor of the loaded model has the value that was saved",
    controls=[TENSOR_LEFT_OUT],
    catches=[
        "https://github.com/huggingface/peft/pull/2646",
        "https://github.com/huggingface/transformers/issues/48154",
    ],
    cost="model",
)
def reload_restores_every_tensor(evidence: Evidence) -> Iterator[Finding]:
    save, model = saved(evidence), loaded(evidence)
    expected, found = save.before.state_dict(), model.state_dict()
    if set(expected) != set(found):
        raise NotApplicable("the loaded model has other names than the saved one; its logits are compared instead")
    # Before 0.6 PEFT leaves the original of a copied module trainable, though nothing reaches it.
    reached = [name for name in expected if ".original_module." not in name]
    differing = [name for name in reached if found[name].is_meta or _apart(expected[name], found[name])]
    if differing:
        trainable = {name for name, p in save.before.named_parameters() if p.requires_grad}
        trained = [name for name in differing if name in trainable]
        yield Finding(
            summary=f"{len(differing)} of {len(expected)} tensors have another value after loading, {len(trained)} of "
            f"them trained: {first_few(trained or differing)}",
            cause="they are not in the file, or under a name that loading does not look for"
            if trained
            else "frozen weights of the base differ: another base is loaded than was trained on",
            remedy="list what trains beside the adapter in modules_to_save, and load the same base",
        )


@check(
    "saving-leaves-the-model-alone",
    "saving",
    "saving changes no weight, no flag and no mode of the model that goes on training",
    controls=[SAVING_MERGES],
    catches=["https://github.com/huggingface/peft/pull/1355"],
    cost="model",
)
def saving_leaves_the_model_alone(evidence: Evidence) -> Iterator[Finding]:
    save = saved(evidence)
    if is_merged_export(save):
        raise NotApplicable("saving exports a merged model, after which no training goes on")
    before, after = save.before, save.after
    values, now = before.state_dict(), after.state_dict()
    changed = sorted(set(values) ^ set(now)) + [n for n in values if n in now and _other_bits(values[n], now[n])]
    flags, flags_now = ({n: p.requires_grad for n, p in model.named_parameters()} for model in (before, after))
    modes, modes_now = ({n: m.training for n, m in model.named_modules()} for model in (before, after))
    frozen = [name for name, flag in flags.items() if flags_now.get(name) != flag]
    switched = [name or "the model" for name, mode in modes.items() if modes_now.get(name, mode) != mode]
    merged = [n for n, m in after.named_modules() if getattr(m, "merged_adapters", None)]
    what = {
        "tensors have other values or names": changed,
        "parameters have another requires_grad": frozen,
        "modules are in another mode": switched,
        "layers are left merged": merged,
    }
    for change, names in what.items():
        if names:
            yield Finding(
                summary=f"{len(names)} {change} after saving: {first_few(names)}",
                cause="saving works on the model that trains: it merges, casts or freezes it, or switches it to eval()",
                remedy="save a copy, or undo afterwards what saving does to the model",
            )


def _other_bits(one: Tensor, other: Tensor) -> bool:
    return fingerprint(one) != fingerprint(other)


@check(
    "saving-twice-gives-the-same-file",
    "saving",
    "a second save of the same model writes the same tensors, to the bit",
    controls=[NOISE_IN_EACH_SAVE],
    cost="model",
)
def saving_twice_gives_the_same_file(evidence: Evidence) -> Iterator[Finding]:
    import copy

    save = saved(evidence)
    again = Folder()
    with quiet(), preserved_settings(evidence.recipe.threads):
        seed_everything(evidence.seed + 17)  # so that what is drawn is drawn otherwise
        (evidence.recipe.save or save_pretrained)(copy.deepcopy(save.before), again.path)
    first, second = save.tensors, read_tensors(again.path)
    only_once = sorted(set(first) ^ set(second))
    other = [name for name in first if name in second and _other_bits(first[name], second[name])]
    if only_once or other:
        yield Finding(
            summary=f"{len(other)} tensors differ and {len(only_once)} are in one file only when the same model is "
            f"saved twice: {first_few(other or only_once)}",
            cause="saving draws or changes something: an initialisation, a merge in place, a cast of a cast",
            remedy="save the state as it is, and nothing that is computed from random numbers",
        )
