"""Checks of the other ways to load what was saved: each must give the model that was saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import active, config_of, is_prompt, takes_from_base
from ..evidence.checkpoint import failing, load_adapter, loaded, quiet, read_tensors, saved
from ..evidence.precision import distance, precision
from ..isolation import preserved_settings
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.saving import LOADS_A_TRAINABLE_BASE, NAMES_KEEP_THE_ADAPTER, TENSOR_LEFT_OUT

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from ..evidence.checkpoint import Saved
    from ..evidence.evidence import Evidence

Way = Callable[[], "nn.Module"]
SPARING = "PeftModel.from_pretrained(base, folder, low_cpu_mem_usage=True)"


@check(
    "every-way-of-loading-agrees",
    "saving",
    "the saved adapter computes the same by whatever documented way it is loaded",
    controls=[TENSOR_LEFT_OUT, NAMES_KEEP_THE_ADAPTER],
    catches=["https://github.com/huggingface/peft/issues/2115"],
    applies="adapter",
    cost="model",
)
def every_way_of_loading_agrees(evidence: Evidence) -> Iterator[Finding]:
    save, exact = saved(evidence), precision(evidence)
    expected = exact.logits(save.before)
    for called, way in _ways(evidence, save).items():
        try:
            model = way()
        except (NotImplementedError, ImportError, AttributeError):
            continue  # not in this release
        except Exception as error:
            yield loading_fails(called, error)
            continue
        yield from disagreement(called, model, expected, evidence)


def loading_fails(called: str, error: Exception) -> Finding:
    text = str(error).splitlines()
    return Finding(
        summary=f"1 way of loading fails: {called} raised {type(error).__name__}: {text[0] if text else ''}",
        cause="the folder cannot be read this way, though it is how PEFT documents it",
        remedy="save with PeftModel.save_pretrained(), and test the way of loading that is used in production",
    )


def disagreement(called: str, model: nn.Module, expected: Tensor, evidence: Evidence) -> Iterator[Finding]:
    unfilled = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    exact = precision(evidence)
    if unfilled:
        yield Finding(
            summary=f"{len(unfilled)} tensors are on the meta device after {called}: {first_few(unfilled)}",
            cause="the file has no value for them, and this way of loading does not say so",
            remedy="load with low_cpu_mem_usage=False, and compare the keys of the file with the model's",
        )
        return
    before = saved(evidence).before
    # peft 0.21.2 passes the values through the dtype of the base, though it holds them in float32 afterwards.
    tolerance = exact.tolerance(model, before) if called == SPARING else exact.between(model, before)
    difference = distance(exact.logits(model), expected)
    if not difference <= tolerance:
        yield Finding(
            summary=f"{difference:.3g} is the largest difference of the logits from those saved, after {called} "
            f"(rounding: {tolerance:.2g})",
            cause="this way of loading ignores or misplaces a part of what is in the file, without a word",
            remedy="look at the missing and unexpected keys that loading returns, or load the way that agrees",
        )


def _ways(evidence: Evidence, save: Saved) -> dict[str, Way]:
    """The ways to load an adapter, by how they are called. NotApplicable where it was not saved as PEFT saves it."""
    folder = save.adapter_folder
    model: Any = save.before
    if folder is None or not hasattr(model, "peft_config"):
        raise NotApplicable("no adapter was saved in PEFT's own form")
    config, name = config_of(model), active(model)

    def named() -> nn.Module:
        return load_adapter(evidence, folder, "loaded")  # type: ignore[no-any-return]

    def sparing() -> nn.Module:
        _refuse_unknown("low_cpu_mem_usage")
        return load_adapter(evidence, folder, name, low_cpu_mem_usage=True)  # type: ignore[no-any-return]

    ways: dict[str, Way] = {"PeftModel.from_pretrained(base, folder, adapter_name='loaded')": named}
    if takes_from_base(config):
        # Each adapter of this kind takes its part out of the base; two of them on one base is not what they are for.
        return ways
    ways[SPARING] = sparing
    if not evidence.trained_elsewhere and len(model.peft_config) == 1:
        ways["load_adapter() onto an adapted model"] = lambda: _loaded_beside(evidence, folder)
        ways["set_peft_model_state_dict() on an adapted model"] = lambda: _state_set(evidence, folder)
    return ways


def _refuse_unknown(option: str) -> None:
    import inspect

    from peft import PeftModel

    if option not in inspect.signature(PeftModel.from_pretrained).parameters:
        raise NotImplementedError(option)


def _loaded_beside(evidence: Evidence, folder: Path) -> nn.Module:
    model: Any = evidence.adapted_model()
    with quiet(), preserved_settings(evidence.recipe.threads):
        try:
            model.load_adapter(str(folder), adapter_name="loaded")
        except ValueError as error:  # two adapters that train the same biases, for one
            raise NotImplementedError(str(error)) from None
    model.set_adapter("loaded")
    return model  # type: ignore[no-any-return]


def _state_set(evidence: Evidence, folder: Path) -> nn.Module:
    from peft import set_peft_model_state_dict

    model: Any = evidence.adapted_model()
    state = {name.partition(": ")[2]: tensor for name, tensor in read_tensors(folder).items()}
    with quiet():
        set_peft_model_state_dict(model, state, adapter_name=active(model))
    return model  # type: ignore[no-any-return]


@check(
    "reload-trains-the-same-parameters",
    "saving",
    "an adapter that is loaded to go on training trains exactly what trained before",
    controls=[LOADS_A_TRAINABLE_BASE],
    catches=["https://github.com/huggingface/peft/issues/2115"],
    applies="adapter",
    cost="model",
)
def reload_trains_the_same_parameters(evidence: Evidence) -> Iterator[Finding]:
    save = saved(evidence)
    before = _trainable(save.before)
    if evidence.recipe.load is not None:
        model = loaded(evidence)
        if not hasattr(model, "peft_config") or not hasattr(save.before, "peft_config"):
            raise NotApplicable("recipe.load returns no PeftModel")
        before, found = _without_adapter_name(save.before), _without_adapter_name(model)
        if found and found.keys() != before.keys():
            yield _other_trainable("recipe.load", before, found)
        return
    if save.adapter_folder is None or not hasattr(save.before, "peft_config"):
        raise NotApplicable("no adapter was saved in PEFT's own form")
    name = active(save.before)
    if is_prompt(config_of(save.before)):
        raise NotApplicable("PEFT does not load a prompt to train it further")
    with failing("loading to train"):
        to_train = _trainable(load_adapter(evidence, save.adapter_folder, name, is_trainable=True))
    if to_train.keys() != before.keys():
        yield _other_trainable("from_pretrained(is_trainable=True)", before, to_train)
    other = [n for n, dtype in to_train.items() if before.get(n, dtype) != dtype]
    if other:
        yield Finding(
            summary=f"{len(other)} trainable tensors have another dtype after loading: {first_few(other)}",
            cause="the adapter is made in the base's dtype, or cast when it is loaded",
            remedy="pass autocast_adapter_dtype as it was for training",
            evidence=(f"{other[0]}: {to_train[other[0]]} instead of {before[other[0]]}",),
        )


def _trainable(model: nn.Module) -> dict[str, Any]:
    named = [(name, p) for name, p in model.named_parameters() if ".original_module." not in name]
    return {name: p.dtype for name, p in named if p.requires_grad}


def _without_adapter_name(model: nn.Module) -> dict[str, Any]:
    """The trainable names, whatever the adapter is called."""
    name = active(model)
    return {one.replace(f".{name}", ""): dtype for one, dtype in _trainable(model).items()}


def _other_trainable(called: str, before: dict[str, Any], found: dict[str, Any]) -> Finding:
    lost, gained = sorted(before.keys() - found.keys()), sorted(found.keys() - before.keys())
    return Finding(
        summary=f"{len(lost)} parameters no longer train and {len(gained)} begin to after {called}: "
        f"{first_few(lost or gained)}",
        cause="loading freezes or thaws by other rules than adapting: is_trainable, inference_mode, modules_to_save",
        remedy="load with is_trainable=True to go on training, and check the trainable names before the first step",
    )
