"""Breaking what is saved, and how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..check import Sabotage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...recipe import Recipe

Tensors = dict[str, "Tensor"]


def after_saving(recipe: Recipe, change: Callable[[nn.Module, Path], None]) -> Recipe:
    """``recipe`` whose save is followed by ``change(model, folder)``."""
    from ...evidence.checkpoint import save_pretrained

    inner = recipe.save or save_pretrained

    def save(model: nn.Module, folder: Path) -> None:
        inner(model, folder)
        change(model, folder)

    return recipe.replace(save=save)


def before_saving(recipe: Recipe, change: Callable[[nn.Module], None]) -> Recipe:
    """``recipe`` whose save is preceded by ``change(model)``."""
    from ...evidence.checkpoint import save_pretrained

    inner = recipe.save or save_pretrained

    def save(model: nn.Module, folder: Path) -> None:
        change(model)
        inner(model, folder)

    return recipe.replace(save=save)


def with_files(change: Callable[[nn.Module, Tensors], Tensors]) -> Callable[[Recipe], Recipe]:
    """A sabotage of the tensors in each file that was saved: ``change(model, tensors)`` returns what it holds then."""

    def rewrite(model: nn.Module, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        for path in sorted(folder.rglob("*")):
            if path.suffix == ".safetensors":
                tensors = change(model, load_file(str(path)))
                # Two names of one tensor are two tensors in this format.
                save_file({n: t.clone().contiguous() for n, t in tensors.items()}, str(path), metadata={"format": "pt"})
            elif path.suffix in (".bin", ".pt", ".pth"):
                held = torch.load(path, map_location="cpu", weights_only=True)
                torch.save(change(model, held), path)

    return lambda recipe: after_saving(recipe, rewrite)


def _empty(model: nn.Module, tensors: Tensors) -> Tensors:
    return {}


def _without_one(model: nn.Module, tensors: Tensors) -> Tensors:
    """All but the last tensor that trained and that nothing can make up for."""
    from ...evidence.checkpoint import held_in

    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
    held = [name for names in held_in(tensors, trained).values() for name in names]
    return {name: tensor for name, tensor in tensors.items() if name not in held[-1:]}


def _with_base(model: nn.Module, tensors: Tensors) -> Tensors:
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    return {**tensors, **frozen}


def _partly_half(model: nn.Module, tensors: Tensors) -> Tensors:
    import torch

    half = list(tensors)[: len(tensors) // 2]
    return {name: tensor.to(torch.float16) if name in half else tensor for name, tensor in tensors.items()}


def _names_kept(model: nn.Module, tensors: Tensors) -> Tensors:
    """The names of the model's own state dict, with the adapter's name in them, as ``torch.save`` of it has them."""
    name = getattr(model, "active_adapter", None)
    if not isinstance(name, str):
        return tensors
    return {_named(key, name): tensor for key, tensor in tensors.items()}


def _named(key: str, adapter: str) -> str:
    stem, _, last = key.rpartition(".")
    return f"{stem}.{adapter}.{last}" if "lora_" in key else key


def _noisy(model: nn.Module, tensors: Tensors) -> Tensors:
    import torch

    return {n: t + 1e-4 * torch.randn_like(t) if t.is_floating_point() else t for n, t in tensors.items()}


def _double_alpha(model: nn.Module, folder: Path) -> None:
    for path in folder.rglob("adapter_config.json"):
        held = json.loads(path.read_text())
        held["lora_alpha"] = 2 * held.get("lora_alpha", 1)
        path.write_text(json.dumps(held))


def _merge_in_place(model: Any) -> None:
    if hasattr(model, "merge_adapter"):
        model.merge_adapter()
    else:
        model.eval().requires_grad_(False)


def _base_saved(recipe: Recipe) -> Recipe:
    """The file holds the base's weights in place of what trained."""

    def save(model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        from ...evidence.checkpoint import save_pretrained

        (recipe.save or save_pretrained)(model, folder)
        frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
        for path in folder.rglob("*.safetensors"):
            save_file(frozen, str(path), metadata={"format": "pt"})

    return recipe.replace(save=save)


def loading(recipe: Recipe, change: Callable[[nn.Module], None]) -> Recipe:
    """``recipe`` whose loaded model goes through ``change``. Where it has no load of its own it gets PEFT's."""

    def load(folder: Path) -> nn.Module:
        model = (recipe.load or _load_adapter)(folder)
        change(model)
        return model

    def _load_adapter(folder: Path) -> nn.Module:
        from peft import PeftModel

        from ...building import base_model

        found = sorted(folder.rglob("adapter_config.json"))[0].parent
        return PeftModel.from_pretrained(base_model(recipe, 0), str(found), is_trainable=True)

    return recipe.replace(load=load)


def _thaw(model: nn.Module) -> None:
    model.requires_grad_(True)


def _other_last_weight(model: nn.Module) -> None:
    import torch

    last = [p for p in model.parameters() if p.dim() > 1][-1]
    with torch.no_grad():
        last.copy_(0.5 * last.flip(0))


def _adapter(id: str, breaks: str, apply: Callable[[Recipe], Recipe]) -> Sabotage:
    return Sabotage(id, breaks, apply, "adapter")


TENSOR_LEFT_OUT = Sabotage("tensor-left-out", "one trained tensor is not in the file", with_files(_without_one))
EMPTY_FILE = Sabotage("empty-file", "the saved state dict is empty", with_files(_empty))
NOISE_IN_EACH_SAVE = Sabotage("noise-in-each-save", "saving adds random noise to every tensor", with_files(_noisy))
SOME_IN_HALF_PRECISION = _adapter(
    "some-in-half-precision", "half of the tensors are saved in float16", with_files(_partly_half)
)
BASE_BESIDE_THE_ADAPTER = _adapter(
    "base-beside-the-adapter", "the file holds the frozen base too", with_files(_with_base)
)
NAMES_KEEP_THE_ADAPTER = _adapter(
    "names-keep-the-adapter", "names in the file are those of the model's state dict", with_files(_names_kept)
)
BASE_SAVED = _adapter("base-saved", "the base is saved instead of the adapter", _base_saved)
ALPHA_EDITED = _adapter(
    "alpha-edited", "the saved alpha is twice what trained", lambda r: after_saving(r, _double_alpha)
)
SAVING_MERGES = Sabotage(
    "saving-merges", "saving merges or freezes in place", lambda r: before_saving(r, _merge_in_place)
)
LOADS_A_TRAINABLE_BASE = _adapter(
    "loads-a-trainable-base", "loading leaves every weight trainable", lambda r: loading(r, _thaw)
)
LOADS_ANOTHER_HEAD = _adapter(
    "loads-another-head", "the base that is loaded has another head", lambda r: loading(r, _other_last_weight)
)
