"""Which modules a LoRA declaration means, worked out without PEFT, so that PEFT's own choice can be held to it.

The rules are those of peft 0.21.2 (``peft.tuners.tuners_utils.check_target_module_exists``). Matching by ending is the
usual source of surprises: ``c_proj`` is two layers in every GPT-2 block.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union

from ..errors import RecipeError
from .layers import is_linear, layer_of

if TYPE_CHECKING:
    from torch import nn

    from ..methods import LoRA

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


def targeted_modules(model: nn.Module, method: LoRA) -> tuple[str, ...]:
    """Names of the modules that ``method`` puts an adapter on, in the order of the base ``model``.

    Raises RecipeError, with the names that there are, where it would be none.
    """
    targets = _targets(model, method)
    matched = [name for name, _ in model.named_modules() if name and _matches(name, targets)]
    if not matched:
        raise RecipeError(_nothing_matched(model, method, targets))
    kept = tuple(name for name in matched if not _is_left_out(name, method, targets))
    if not kept:
        raise RecipeError(
            f"LoRA.target_modules matches {len(matched)} modules ({matched[0]}, ...), and every one is left out by "
            "modules_to_save, exclude_modules or layers_to_transform"
        )
    return kept


def unmatched_targets(model: nn.Module, method: LoRA) -> tuple[str, ...]:
    """The targets, of those named one by one, that no module answers to. PEFT drops them without a word."""
    targets = _targets(model, method)
    names = [name for name, _ in model.named_modules()]
    if isinstance(targets, str):
        return () if any(_matches(name, targets) for name in names) else (targets,)
    return tuple(target for target in targets if not any(_matches(name, (target,)) for name in names))


def are_rewritten(model: nn.Module, method: LoRA) -> bool:
    """Whether PEFT may replace the declared targets by its own.

    With transformers 5 it does so where the experts of a layer are one stacked parameter, to honour the names that they
    had as modules. Targets named one by one that are all there, and all adaptable, it leaves alone.
    """
    experts = (p for name, p in model.named_parameters() if name.split(".")[-2:-1] == ["experts"])
    if not any(parameter.dim() == 3 for parameter in experts):
        return False
    if isinstance(method.target_modules, str) or not method.target_modules or unmatched_targets(model, method):
        return True
    return not all(layer_of(model.get_submodule(name)) for name in targeted_modules(model, method))


def rank_of(method: LoRA, module_name: str) -> int:
    """The rank that ``method`` gives a targeted module, ``rank_pattern`` included."""
    return _from_pattern(method.rank_pattern, module_name, method.r)


def alpha_of(method: LoRA, module_name: str) -> float:
    """The alpha that ``method`` gives a targeted module, ``alpha_pattern`` included."""
    return _from_pattern(method.alpha_pattern, module_name, method.alpha)


def saved_names(method: LoRA) -> tuple[str, ...]:
    """Endings of the modules trained as a full copy: the declared ones, and the head that the task type implies."""
    heads = HEADS.get(method.task_type or "", ())
    return tuple(dict.fromkeys((*method.modules_to_save, *heads)))


def closest_names(model: nn.Module, name: str) -> str:
    """``'c_atn' (closest: 'c_attn')``: ``name``, and the endings of module names that resemble it."""
    length = name.count(".") + 1
    endings = {".".join(module.split(".")[-length:]) for module, _ in model.named_modules() if module}
    close = ", ".join(repr(ending) for ending in difflib.get_close_matches(name, sorted(endings)))
    return f"{name!r} (closest: {close})" if close else repr(name)


def _targets(model: nn.Module, method: LoRA) -> Targets:
    """The targets spelt out: a regular expression for whole names, or names and their endings."""
    targets = _default_targets(model) if method.target_modules is None else method.target_modules
    if not isinstance(targets, str):
        return tuple(targets)
    if targets.lower() == "all-linear":
        heads = _heads(model, method)
        return tuple(name for name in linear_layers(model) if name not in heads)
    try:
        re.compile(targets)
    except re.error as error:
        raise RecipeError(f"LoRA.target_modules is {targets!r}, which is no regular expression: {error}") from None
    return targets


def _default_targets(model: nn.Module) -> Sequence[str] | str:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in DEFAULTS:
        raise RecipeError(
            f"LoRA.target_modules is None, and PEFT has no default targets for a model of type {kind!r}; name them\n"
            + _layers_there_are(model)
        )
    return DEFAULTS[kind]


def _heads(model: nn.Module, method: LoRA) -> set[str]:
    """What "all-linear" leaves out: the output embedding, or else the classification head."""
    library = sys.modules.get("transformers")
    if library is None or not isinstance(model, library.PreTrainedModel):
        return set()
    output = model.get_output_embeddings()
    if output is not None:
        return {name for name, module in model.named_modules() if module is output}
    return set(HEADS["SEQ_CLS"]) if method.task_type == "SEQ_CLS" else set()


def _matches(name: str, targets: Targets) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return name in targets or name.endswith(tuple(f".{target}" for target in targets))


def _is_left_out(name: str, method: LoRA, targets: Targets) -> bool:
    excluded = method.options.get("exclude_modules") or ()
    if excluded and _matches(name, excluded if isinstance(excluded, str) else tuple(excluded)):
        return True
    if any(re.match(rf"(^|.*\.){saved}($|\..*)", name) for saved in saved_names(method)):
        return True
    # A module that is targeted by its full name is adapted in whatever layer it is.
    by_ending = not isinstance(targets, str) and name not in targets
    return by_ending and not _is_in_layers(name, method.options)


def _is_in_layers(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the layer number in ``name`` is one of ``layers_to_transform``; the first number counts, as in PEFT."""
    layers = options.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    # Without a pattern PEFT wants at least one more name before the list of layers ("transformer.h.0", not "h.0").
    patterns = options.get("layers_pattern") or r"[^.]*\.[^.]*"
    patterns = [patterns] if isinstance(patterns, str) else patterns
    matches = (re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name) for pattern in patterns)
    found = next(filter(None, matches), None)
    return found is not None and int(found[1]) in ([layers] if isinstance(layers, int) else layers)


def _from_pattern(patterns: Mapping[str, V], module_name: str, default: V) -> V:
    """The value of the first pattern that is the whole of ``module_name`` or its ending (``peft``'s rule)."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module_name):
            return value
    return default


def _nothing_matched(model: nn.Module, method: LoRA, targets: Targets) -> str:
    names = (targets,) if isinstance(targets, str) else targets
    lines = [f"LoRA.target_modules names no module of this model: {', '.join(closest_names(model, n) for n in names)}"]
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
