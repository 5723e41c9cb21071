"""Probes of what a configuration means: which modules, which scale, which learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..adapters import adapted, inputs_of, logits, tolerance, trained
from ..breaks import layers_not_looked_at, scaled_back_without_the_root
from ..models import build
from ..probe import Control, distance, from_peft, probe
from ..releases import require

if TYPE_CHECKING:
    from torch import nn

PEFT = "https://github.com/huggingface/peft/"


def _wrapped(model: Any) -> list[str]:
    """Names, in the base model, of the modules that carry LoRA matrices."""
    found = [name for name, module in model.named_modules() if hasattr(module, "lora_A") and hasattr(module, "scaling")]
    return [name.removeprefix("base_model.model.") for name in found]


WANTED: dict[str, tuple[str, dict[str, Any], str]] = {
    # case -> architecture, settings, and the endings of the names that are meant (all others are not)
    "two-names": ("llama", {"target_modules": ["q_proj", "v_proj"]}, r"\.(q_proj|v_proj)$"),
    "one-name-of-an-ending": ("gpt2", {"target_modules": ["attn.c_proj"]}, r"attn\.c_proj$"),
    "name-is-not-a-part": ("t5", {"target_modules": ["o"]}, r"\.o$"),
    "regex": ("llama", {"target_modules": r".*\.1\..*(q|o)_proj"}, r"\.1\..*(q|o)_proj$"),
    "layer-of-llama": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}, r"layers\.1\..*q_proj$"),
    "layer-of-gpt2": ("gpt2", {"target_modules": ["c_attn"], "layers_to_transform": [0]}, r"h\.0\..*c_attn$"),
    "layer-of-experts": (
        "qwen2-moe", {"target_modules": ["up_proj", "down_proj"], "layers_to_transform": [1]},
        r"layers\.1\..*(up_proj|down_proj)$",
    ),
    "layer-by-pattern": (
        "gpt-neox", {"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": "layers"},
        r"layers\.1\..*\.dense$",
    ),
    "excluded": (
        "llama", {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["layers.0.self_attn.k_proj"]},
        r"q_proj$|1\.self_attn\.k_proj$",
    ),
    "excluded-by-regex": (
        "llama", {"target_modules": ["q_proj", "k_proj"], "exclude_modules": r".*\.0\..*"},
        r"1\.self_attn\.(q|k)_proj$",
    ),
    "every-linear": ("llama", {"target_modules": "all-linear"}, r"_proj$"),
    "every-linear-of-tied": ("llama-tied", {"target_modules": "all-linear"}, r"_proj$"),
    "every-linear-of-gpt2": ("gpt2", {"target_modules": "all-linear"}, r"\.(c_attn|c_proj|c_fc)$"),
    "every-linear-of-opt": ("opt", {"target_modules": "all-linear"}, r"\.(\w+_proj|fc1|fc2)$"),
    "every-linear-of-classifier": (
        "bert-classifier", {"target_modules": "all-linear", "task_type": "SEQ_CLS"},
        r"\.(query|key|value|dense)$",
    ),
    "every-linear-and-head-saved": (
        "llama", {"target_modules": "all-linear", "modules_to_save": ["lm_head"]}, r"_proj$",
    ),
    "default-of-llama": ("llama", {}, r"\.(q_proj|v_proj)$"),
    "default-of-gpt2": ("gpt2", {}, r"\.c_attn$"),
    "default-of-mistral": ("mistral", {}, r"\.(q_proj|v_proj)$"),
    "default-of-t5": ("t5", {}, r"\.(q|v)$"),
    "default-of-bert": ("bert-masked", {}, r"\.(query|value)$"),
    "default-of-gpt-neox": ("gpt-neox", {}, r"\.query_key_value$"),
    "default-of-phi": ("phi", {}, r"\.(q_proj|v_proj|fc1|fc2)$"),
    "more-than-twenty-names": (
        "llama",
        {"target_modules": [f"model.layers.{i}.self_attn.{p}_proj" for i in range(2) for p in "qkvo"]
         + [f"absent_{i}" for i in range(20)]},
        r"self_attn\.[qkvo]_proj$",
    ),
    "twenty-endings-that-overlap": (
        "gpt2",
        {"target_modules": ["h.0.attn.c_proj", "h.1.mlp.c_proj"] + [f"absent.{i}.c_fc" for i in range(20)]},
        r"h\.0\.attn\.c_proj$|h\.1\.mlp\.c_proj$",
    ),
}  # fmt: skip


@probe(
    "adapter-on-named-modules",
    "parameters",
    "an adapter is put on exactly the modules that its configuration names",
    library="peft",
    cause="names, layer numbers or exclusions are matched against other parts of a module's path",
    cases=lambda: tuple(WANTED),
    control=Control("layer-of-llama", layers_not_looked_at),
    links=[f"{PEFT}pull/3318", f"{PEFT}pull/2195"],
)
def on_named_modules(case: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    import re

    from peft import get_peft_model

    architecture, settings, pattern = WANTED[case]
    if settings.get("target_modules") == "all-linear":
        require("peft>=0.8")
    base = build(architecture)
    layers = [name for name, module in base.named_modules() if _takes_lora(module)]
    wanted = {name for name in layers if re.search(pattern, name)}
    try:
        config = from_peft("LoraConfig")(r=2, **settings)
    except TypeError as error:
        raise NotApplicable(f"the installed peft does not know the setting: {error}") from None
    found = set(_wrapped(get_peft_model(base, config)))
    if found != wanted:
        odd = sorted(found ^ wanted)
        yield (
            f"{len(found)} modules carry the adapter, {len(wanted)} are named; they differ in {len(odd)}",
            ", ".join(odd[:3]),
        )


def _takes_lora(module: nn.Module) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D", "Embedding", "NonDynamicallyQuantizableLinear")


@probe(
    "adapter-on-many-targets",
    "parameters",
    "more than twenty target names mean the same modules as they are shortened",
    library="peft",
    cause="the optimisation that shortens long target lists picks an ending that fits other modules",
    cases=lambda: ("llama", "gpt2", "t5"),
    needs="peft>=0.12",
    links=[f"{PEFT}pull/1997"],
)
def many_targets(case: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    from peft import LoraConfig, get_peft_model

    base = build(
        case, **({"n_layer": 8} if case == "gpt2" else {"num_layers": 8} if case == "t5" else {"num_hidden_layers": 8})
    )
    linear = [name for name, module in base.named_modules() if _takes_lora(module) and "embed" not in name.lower()]
    linear = [
        name for name in linear if not name.endswith(("lm_head", "wte", "wpe", "shared", "relative_attention_bias"))
    ]
    # Every other one: what is left out ends like what is in.
    wanted = set(linear[::2])
    found = set(_wrapped(get_peft_model(base, LoraConfig(r=2, target_modules=sorted(wanted)))))
    if found != wanted:
        odd = sorted(found ^ wanted)
        yield (
            f"{len(found)} modules carry the adapter, {len(wanted)} are named; they differ in {len(odd)}",
            ", ".join(odd[:3]),
        )


@probe(
    "scale-comes-back",
    "adapter",
    "scaling an adapter and undoing it gives the scale that it had",
    library="peft",
    cause="the scale is set back to alpha / r without the pattern or the root that it was made with",
    cases=lambda: ("lora", "rslora", "rslora-patterns", "lora-patterns", "lora-gpt2", "lora-embedding", "dora"),
    needs="peft>=0.5",
    control=Control("rslora", scaled_back_without_the_root),
    links=[f"{PEFT}pull/2775"],
)
def scale_comes_back(name: str, seed: int) -> Iterator[str]:
    model = trained(name, seed)
    expected = logits(model, name)
    layers = [m for m in model.modules() if hasattr(m, "unscale_layer") and hasattr(m, "scaling")]
    if not layers:
        raise NotApplicable("the installed peft cannot scale a layer")
    before = [layer.scaling["default"] for layer in layers]
    for how, undo in (("unscale_layer()", ()), ("unscale_layer(2)", (2.0,))):
        for layer in layers:
            layer.scale_layer(2.0)
        if not distance(logits(model, name), expected) > 0:
            yield "scale_layer(2) changes no output"
        for layer in layers:
            layer.unscale_layer(*undo)
        after = [layer.scaling["default"] for layer in layers]
        if any(abs(a - b) > 1e-9 * abs(a) for a, b in zip(before, after, strict=True)):
            yield f"scaling was {before[0]:g} and is {after[0]:g} after scale_layer(2) and {how}"
            return
    for layer in layers:
        layer.set_scale("default", 1.0)
    if not distance(logits(model, name), expected) <= tolerance(expected, 1e-6):
        yield "set_scale(adapter, 1) changes the output: it forgets how the scale was made"


@probe(
    "loraplus-rates",
    "optimizer",
    "LoRA+ gives each kind of parameter the rate that it is asked for",
    library="peft",
    cause="the groups of the optimizer are told by names or classes that no parameter has",
    needs="peft>=0.14",
    links=[f"{PEFT}pull/3503"],
)
def loraplus_rates(case: str, seed: int) -> Iterator[str]:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    model = adapted("lora-embedding", seed)
    rates = dict(lr=1e-3, loraplus_lr_ratio=16.0, loraplus_lr_embedding=1e-6)
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, **rates)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    wanted = {"lora_embedding": 1e-6, "lora_B": 1.6e-2, "lora_A": 1e-3}
    for key, parameter in model.named_parameters():
        kind = next((kind for kind in wanted if kind in key), None)
        if not parameter.requires_grad or kind is None:
            continue
        if id(parameter) not in rate:
            yield f"{key} is in no group of the optimizer"
        elif not abs(rate[id(parameter)] - wanted[kind]) <= 1e-12:
            yield f"{key} has the rate {rate[id(parameter)]:g} instead of {wanted[kind]:g}"


@probe(
    "lora-dropout-in-training-only",
    "mode",
    "LoRA's dropout changes the output in training, and never in evaluation",
    library="peft",
    cause="the dropout is lost, or does not follow the model's mode",
    cases=lambda: ("lora", "lora-gpt2", "dora", "rslora", "lora-saved-head"),
)
def dropout_in_training_only(name: str, seed: int) -> Iterator[str]:
    import torch

    from ..models import moved

    model = moved(adapted(name, seed, lora_dropout=0.5), only_trainable=True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p != 0.5:
            module.p = 0.0
    once, twice = logits(model, name), logits(model, name)
    if distance(once, twice) != 0:
        yield "in evaluation mode the same input gives two outputs"
    model.train()
    with torch.no_grad():
        first, second = (model(**inputs_of(name)).logits for _ in range(2))
    if distance(first, second) == 0:
        yield "with lora_dropout=0.5, two passes in training mode are equal"
