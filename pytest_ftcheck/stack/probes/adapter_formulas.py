"""Probes of what an adapter computes and trains, by the formulas of its paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..adapters import VARIANTS, inputs_of, names, tolerance, trained
from ..probe import distance, probe

PEFT = "https://github.com/huggingface/peft/"


@probe(
    "adapter-trains-whole-and-alone",
    "parameters",
    "every trainable parameter of an adapter gets a gradient, no other does",
    library="peft",
    cause="parts of the adapter are not in the computation, or parts of the base were left trainable",
    cases=names,
    links=[f"{PEFT}issues/899", f"{PEFT}pull/905", f"{PEFT}pull/2646"],
)
def trains_whole_and_alone(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    import torch

    model = trained(name, seed)
    model.train()
    output = model(**inputs_of(name))
    seen = output if isinstance(output, torch.Tensor) else output.logits
    (seen * torch.randn(seen.shape, generator=torch.Generator().manual_seed(7))).sum().backward()
    silent = [
        key for key, p in model.named_parameters() if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    ]
    trainable = [key for key, p in model.named_parameters() if p.requires_grad]
    silent = [key for key in silent if not _may_be_silent(name, key)]
    if not trainable:
        yield "nothing is trainable"
    if silent:
        yield f"{len(silent)} of {len(trainable)} trainable tensors get no gradient", ", ".join(silent[:3])
    strays = [key for key in trainable if not _belongs_to_adapter(name, key)]
    if strays:
        yield f"{len(strays)} tensors of the base model are trainable", ", ".join(strays[:3])
    if "CLS" in VARIANTS[name].task and not any("classifier" in key or "score" in key for key in trainable):
        yield "the classification head is frozen: it stays random for ever"


def _may_be_silent(name: str, key: str) -> bool:
    """What is trainable and rightly has no gradient: keys of attention are shift-invariant, and so on."""
    shift_invariant = ("k_proj" in key or "in_proj" in key or "key" in key) and "bias" in key
    return shift_invariant or "lora_magnitude" in key or VARIANTS[name].config in ("RandLoraConfig",)


def _belongs_to_adapter(name: str, key: str) -> bool:
    """Whether a trainable tensor is the adapter's: its own, a saved module's copy, or a bias that is to train."""
    marks = ("lora_", "ia3_", "hada_", "lokr_", "oft_", "boft_", "vera_", "hra_", "fourierft_", "ln_tuning", "miss_",
             "shira_", "randlora_", "c3a_", "road_", "trainable_tokens", "prompt_encoder", "modules_to_save", "bone_",
             "token_adapter")  # fmt: skip
    return any(mark in key for mark in marks) or (VARIANTS[name].trains_biases and key.endswith("bias"))


@probe(
    "adapter-adds-scaled-product",
    "adapter",
    "LoRA adds alpha / r (or alpha / √r) · B A x to its layer's output",
    library="peft",
    cause="the scaling or the orientation of the product is not what the configuration says",
    cases=lambda: tuple(n for n in names(is_plain_lora=True) if _has_matrices(n)),
    links=[f"{PEFT}pull/2195", f"{PEFT}pull/2775"],
)
def adds_scaled_product(name: str, seed: int) -> Iterator[str]:
    import torch

    model = trained(name, seed)
    for key, layer in _peft_layers(model):
        matrices = getattr(layer, "lora_A", {})
        if "default" not in matrices or not isinstance(matrices["default"], torch.nn.Linear):
            continue
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        wanted = _scaling(name, key) * (b @ a)
        found = layer.get_delta_weight("default")
        found = found if found.shape == wanted.shape and not _is_conv1d(layer) else found.T
        away = distance(found, wanted)
        if not away <= 1e-5 * max(1.0, float(wanted.abs().max())):
            ratio = float(found.norm() / wanted.norm()) if found.shape == wanted.shape else float("nan")
            yield f"{key}: the change of the weight is {ratio:.3f} times what alpha {_alpha(name, key):g} and rank " + (
                f"{_rank(name, key)} mean"
            )
            return


def _peft_layers(model: Any) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


def _has_matrices(name: str) -> bool:
    return not any(part in name for part in ("pictures", "self-attention", "expert-parameters", "pissa", "olora"))


def _is_conv1d(layer: Any) -> bool:
    return type(getattr(layer, "base_layer", None)).__name__ == "Conv1D"


def _pattern(name: str, setting: str, key: str, default: float) -> float:
    import re

    patterns = VARIANTS[name].settings.get(setting, {})
    return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", key)), default)


def _rank(name: str, key: str) -> int:
    return int(_pattern(name, "rank_pattern", key, VARIANTS[name].settings["r"]))


def _alpha(name: str, key: str) -> float:
    return _pattern(name, "alpha_pattern", key, VARIANTS[name].settings["lora_alpha"])


def _scaling(name: str, key: str) -> float:
    rank = _rank(name, key)
    return _alpha(name, key) / (rank**0.5 if VARIANTS[name].settings.get("use_rslora") else rank)


@probe(
    "dora-scales-columns-to-its-magnitude",
    "adapter",
    "DoRA computes m · (W + s B A) / ‖W + s B A‖, one norm an output",
    library="peft",
    cause="the norm is taken along the wrong axis of the weight, or of the untransposed one (Conv1D)",
    cases=lambda: tuple(n for n in names(is_lora=True) if n.startswith("dora") and "pictures" not in n),
    needs="peft>=0.9",
    links=[f"{PEFT}pull/1588"],
)
def dora_formula(name: str, seed: int) -> Iterator[str]:
    import torch

    model = trained(name, seed)
    for key, layer in _peft_layers(model):
        if "default" not in layer.lora_A:
            continue
        base = layer.base_layer
        weight = base.weight.T if type(base).__name__ == "Conv1D" else base.weight
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        merged = weight + _scaling(name, key) * (b @ a)
        magnitude = _magnitude(layer)
        if magnitude.numel() != len(weight):
            yield f"{key}: the magnitude has {magnitude.numel()} numbers for {len(weight)} outputs"
            return
        x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(5))
        wanted = x @ (magnitude[:, None] * merged / merged.norm(dim=1, keepdim=True)).T
        wanted = wanted + base.bias if base.bias is not None else wanted
        away = distance(layer(x), wanted)
        if not away <= tolerance(wanted):
            yield f"{key}: the output is {away:.2e} away from the formula's"
            return


def _magnitude(layer: Any) -> Any:
    vector = layer.lora_magnitude_vector
    vector = vector["default"] if hasattr(vector, "keys") else vector
    return getattr(vector, "weight", vector).detach().flatten()
