"""Which modules a declaration means, worked out without PEFT, so that PEFT's own choice can be held to it.

The rules are those of peft 0.21.2 (``peft.tuners.tuners_utils.check_target_module_exists``). Matching by ending is the
usual source of surprises: ``c_proj`` is two layers in every GPT-2 block.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, Union

from ..errors import RecipeError
from .layers import is_linear, layer_of
from .placement import Placement, placement_of

if TYPE_CHECKING:
    from torch import nn

    from ..methods import LoRA
    from .placement import Adapting

Targets = Union[str, tuple[str, ...]]
V = TypeVar("V")

# PEFT trains a full copy of the head in these tasks. Only for SEQ_CLS does peft 0.21.2 also keep it out of the adapter;
# a LoRA that targets the head of the others ("all-linear" does) stops with a TypeError.
HEADS = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
USUAL_HEADS = {head for heads in HEADS.values() for head in heads}


def linear_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the Linear and transformers Conv1D layers, in the model's order."""
    return tuple(name for name, module in model.named_modules() if is_linear(module))


# The names that layers of experts and their router had as modules. transformers 5 stacks them, and PEFT reads a LoRA
# target of such a name as one of the stacked parameters, whatever module answers to it too.
STACKED = {"gate", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"}


def targeted_modules(model: nn.Module, method: Adapting) -> tuple[str, ...]:
    """Names of the modules that ``method`` puts an adapter on, in the order of the base ``model``.

    Raises RecipeError, with the names that there are, where it would be none (and no parameter is targeted by name).
    """
    placement = placement_of(method)
    targets = _targets(model, placement)
    matched = [name for name, _ in model.named_modules() if name and _matches(name, targets)]
    if not matched and placement.target_parameters:
        return ()
    if not matched:
        raise RecipeError(_nothing_matched(model, placement, targets))
    kept = tuple(name for name in matched if not _is_left_out(name, placement, targets))
    if not kept and not placement.target_parameters:
        raise RecipeError(
            f"{placement.owner}.target_modules matches {len(matched)} modules ({matched[0]}, ...), and every one is "
            "left out by modules_to_save, exclude_modules or layers_to_transform"
        )
    return kept


def unmatched_targets(model: nn.Module, method: Adapting) -> tuple[str, ...]:
    """The targets, of those named one by one, that no module answers to. PEFT drops them without a word."""
    targets = _targets(model, placement_of(method))
    names = [name for name, _ in model.named_modules()]
    if isinstance(targets, str):
        return () if any(_matches(name, targets) for name in names) else (targets,)
    return tuple(target for target in targets if not any(_matches(name, (target,)) for name in names))


def are_rewritten(model: nn.Module, method: LoRA) -> bool:
    """Whether PEFT may replace the targets that LoRA declares by its own.

    With transformers 5 it does so where the experts of a layer are one stacked parameter, to honour the names that they
    had as modules. It leaves alone targets named one by one that are all there, all adaptable, and none of those names.
    """
    experts = (p for name, p in model.named_parameters() if name.split(".")[-2:-1] == ["experts"])
    if not any(parameter.dim() == 3 for parameter in experts):
        return False
    targets = method.target_modules
    if targets is None or isinstance(targets, str) or unmatched_targets(model, method):
        return True
    if any(target.rpartition(".")[2] in STACKED for target in targets):
        return True
    return not all(layer_of(model.get_submodule(name)) for name in targeted_modules(model, method))


def rank_of(method: LoRA, module_name: str) -> int:
    """The rank that ``method`` gives a targeted module, ``rank_pattern`` included."""
    return from_pattern(method.rank_pattern, module_name, method.r)


def alpha_of(method: LoRA, module_name: str) -> float:
    """The alpha that ``method`` gives a targeted module, ``alpha_pattern`` included."""
    return from_pattern(method.alpha_pattern, module_name, method.alpha)


def from_pattern(patterns: Mapping[str, V], module_name: str, default: V) -> V:
    """The value of the first pattern that is the whole of ``module_name`` or its ending (``peft``'s rule)."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module_name):
            return value
    return default


def saved_names(placement: Placement) -> tuple[str, ...]:
    """Endings of the modules trained as a full copy: the declared ones, and the head that the task type implies."""
    heads = HEADS.get(placement.task_type or "", ())
    return tuple(dict.fromkeys((*placement.modules_to_save, *heads)))


def closest_names(model: nn.Module, name: str) -> str:
    """``'c_atn' (closest: 'c_attn')``: ``name``, and the endings of module names that resemble it."""
    return closest((module for module, _ in model.named_modules()), name)


def closest(names: Iterable[str], name: str) -> str:
    """``name``, and the endings of as many parts among ``names`` that resemble it."""
    length = name.count(".") + 1
    endings = {".".join(one.split(".")[-length:]) for one in names if one}
    close = ", ".join(repr(ending) for ending in difflib.get_close_matches(name, sorted(endings)))
    return f"{name!r} (closest: {close})" if close else repr(name)


def _targets(model: nn.Module, placement: Placement) -> Targets:
    """The targets spelt out: a regular expression for whole names, or names and their endings."""
    targets = _default_targets(model, placement) if placement.target_modules is None else placement.target_modules
    if not isinstance(targets, str):
        return tuple(targets)
    if targets.lower() == "all-linear":
        heads = _heads(model, placement)
        return tuple(name for name in linear_layers(model) if name not in heads)
    try:
        re.compile(targets)
    except re.error as error:
        owner = placement.owner
        raise RecipeError(f"{owner}.target_modules is {targets!r}, which is no regular expression: {error}") from None
    return targets


def _default_targets(model: nn.Module, placement: Placement) -> Sequence[str] | str:
    import peft.utils

    defaults = getattr(peft.utils, f"TRANSFORMERS_MODELS_TO_{placement.kind}_TARGET_MODULES_MAPPING", {})
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in defaults:
        targets: Sequence[str] | str = defaults[kind]
        return targets
    if placement.target_parameters:
        return ()
    raise RecipeError(
        f"{placement.owner}.target_modules is None, and PEFT has no default targets for a model of type {kind!r}; "
        "name them\n" + _layers_there_are(model)
    )


def _heads(model: nn.Module, placement: Placement) -> set[str]:
    """What "all-linear" leaves out: the output embedding, or else the classification head."""
    library = sys.modules.get("transformers")
    if library is None or not isinstance(model, library.PreTrainedModel):
        return set()
    output = model.get_output_embeddings()
    if output is not None:
        return {name for name, module in model.named_modules() if module is output}
    return set(HEADS["SEQ_CLS"]) if placement.task_type == "SEQ_CLS" else set()


def _matches(name: str, targets: Targets) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return name in targets or name.endswith(tuple(f".{target}" for target in targets))


def _is_left_out(name: str, placement: Placement, targets: Targets) -> bool:
    excluded = placement.exclude_modules
    if excluded and _matches(name, excluded if isinstance(excluded, str) else tuple(excluded)):
        return True
    if any(re.match(rf"(^|.*\.){saved}($|\..*)", name) for saved in saved_names(placement)):
        return True
    # A module that is targeted by its full name is adapted in whatever layer it is.
    by_ending = not isinstance(targets, str) and name not in targets
    return by_ending and not _is_in_layers(name, placement)


def _is_in_layers(name: str, placement: Placement) -> bool:
    """Whether the layer number in ``name`` is one of ``layers_to_transform``; the first number counts, as in PEFT."""
    layers = placement.layers_to_transform
    if layers is None or layers == []:
        return True
    # Without a pattern PEFT wants at least one more name before the list of layers ("transformer.h.0", not "h.0").
    patterns = placement.layers_pattern or r"[^.]*\.[^.]*"
    patterns = [patterns] if isinstance(patterns, str) else patterns
    matches = (re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name) for pattern in patterns)
    found = next(filter(None, matches), None)
    return found is not None and int(found[1]) in ([layers] if isinstance(layers, int) else layers)


def _nothing_matched(model: nn.Module, placement: Placement, targets: Targets) -> str:
    names = (targets,) if isinstance(targets, str) else targets
    closest = ", ".join(closest_names(model, name) for name in names)
    lines = [f"{placement.owner}.target_modules names no module of this model: {closest}"]
    if isinstance(targets, str):
        lines.append("  a string is a regular expression for the whole name; give a list for the ending of a name")
    return "\n".join([*lines, _layers_there_are(model)])


def _layers_there_are(model: nn.Module) -> str:
    """One line for each ending among the linear layers, with how many there are of each shape."""
    shapes: dict[str, Counter[str]] = {}
    for name in linear_layers(model):
        layer = layer_of(model.get_submodule(name))
        assert layer is not None
        shapes.setdefault(_ending(name), Counter())[f"{layer.inputs}x{layer.outputs}"] += 1
    lines = [
        f"    {ending}: " + ", ".join(f"{count} of {shape}" for shape, count in counts.items())
        for ending, counts in shapes.items()
    ]
    return "\n".join(["  its linear layers, by the ending of their names:" if lines else "  it has none", *lines])


def _ending(name: str) -> str:
    """The last part of a name that says something: ``c_attn``, or ``mlp.0`` where the last part is a number."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
