"""Probes of stored adapters: what the file holds, and what is loaded from it."""

from __future__ import annotations

import enum
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..adapters import VARIANTS, adapted, base_of, config_of, logits, names, tolerance, trained
from ..breaks import heads_left_out
from ..probe import Control, distance, probe

if TYPE_CHECKING:
    from torch import Tensor

PEFT = "https://github.com/huggingface/peft/"


def stored(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of the adapter in ``folder``, whichever format its release wrote."""
    path = Path(folder)
    if (path / "adapter_model.safetensors").exists():
        from safetensors.torch import load_file

        return load_file(path / "adapter_model.safetensors")
    import torch

    # Releases before 0.7 wrote with torch.save; the file is our own, of a second ago.
    return torch.load(path / "adapter_model.bin", weights_only=True)  # type: ignore[no-any-return]


def load(name: str, folder: str | Path, **settings: Any) -> Any:
    """The adapter in ``folder`` on a new base model, in evaluation mode."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base_of(name), str(folder), **settings).eval()


# Their state is not all of them: they multiply random matrices or go through an encoder that is not stored.
DRAWN = ("VeraConfig", "RandLoraConfig", "ShiraConfig", "PromptEncoderConfig")


@probe(
    "adapter-loads-as-saved",
    "saving",
    "an adapter that was saved and loaded onto its base computes what it did",
    library="peft",
    cause="a trained part is not in the file, or is not taken from it, or the scaling is lost",
    cases=names,
    control=Control("lora-saved-head", heads_left_out),
    links=[f"{PEFT}pull/2646", f"{PEFT}pull/2649", f"{PEFT}issues/2206"],
)
def loads_as_saved(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    if name == "pissa-fast":
        raise NotApplicable("its randomised decomposition is another one at loading, as peft documents")
    model = trained(name, seed)
    expected = logits(model, name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = load(name, folder)
        away = distance(logits(again, name), expected)
        if not away <= tolerance(expected):
            yield f"logits differ by {away:.2e} after save_pretrained() and from_pretrained()"
        # Prompts and trained biases stay trainable in every release, which hurts nobody who has no optimizer.
        left = [key for key, p in again.named_parameters() if p.requires_grad and not _harmless(key)]
        if left:
            yield f"{len(left)} tensors are trainable in an adapter loaded for inference", ", ".join(left[:3])


def _harmless(key: str) -> bool:
    return "prompt_encoder" in key or key.endswith("bias")


@probe(
    "loaded-adapter-goes-on-training",
    "parameters",
    "loaded with is_trainable=True, the same parameters train as before",
    library="peft",
    cause="loading freezes a part of the adapter, or leaves parts of the base trainable",
    cases=names,
    links=[f"{PEFT}issues/2115"],
)
def goes_on_training(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    model = adapted(name, seed)
    wanted = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = load(name, folder, is_trainable=True)
    found = {key for key, parameter in again.named_parameters() if parameter.requires_grad}
    if found != wanted:
        odd = sorted(found ^ wanted)
        yield f"{len(found)} tensors train after loading, {len(wanted)} before saving", ", ".join(odd[:3])


@probe(
    "adapter-file-holds-what-trains",
    "saving",
    "the adapter's file holds every trained tensor, and no frozen full matrix",
    library="peft",
    cause="a trained part has no key in the file: it is lost, or comes back random",
    cases=names,
    links=[f"{PEFT}pull/2646", f"{PEFT}pull/3282"],
)
def file_holds_what_trains(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    variant = VARIANTS[name]
    if variant.config.startswith(("Prompt", "Prefix")) and "CLS" not in variant.task:
        raise NotApplicable("stored in another form than trained")
    model = trained(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        held = {key: tensor.float() for key, tensor in stored(folder).items()}
    missing = []
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad or "prompt_encoder" in key:
            continue
        same = [t for t in held.values() if t.numel() == parameter.numel()]
        if not any(distance(t.reshape(-1), parameter.detach().reshape(-1)) == 0 for t in same):
            missing.append(key)
    if missing and not (variant.config == "AdaLoraConfig" or "tokens" in name or variant.config == "ShiraConfig"):
        yield f"{len(missing)} trained tensors are not in the file", ", ".join(missing[:3])


@probe(
    "adapter-configuration-survives",
    "saving",
    "the configuration that is loaded is the one that was saved",
    library="peft",
    cause="a field is lost, or a name list is changed, between saving and loading",
    cases=names,
)
def configuration_survives(name: str, seed: int) -> Iterator[str]:
    import peft

    model = adapted(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        json.loads((Path(folder) / "adapter_config.json").read_text())
        again = peft.PeftConfig.from_pretrained(folder)
    before, after = vars(model.peft_config["default"]), vars(again)
    for key in sorted(set(before) & set(after)):
        if key in ("inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "rank_pattern"):
            continue
        if key == "target_modules" and not isinstance(before[key], str):
            continue  # a minimal list of endings is as good; what it means is seen by loading
        if _plain(before[key]) != _plain(after[key]):
            yield f"{key} was {before[key]!r} and is {after[key]!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, (set, list, tuple)):
        return sorted(map(str, value))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return sorted((key, str(item)) for key, item in value.items()) or None
    return str(value)


@probe(
    "adapter-state-round-trip",
    "saving",
    "get_peft_model_state_dict and set_peft_model_state_dict carry a whole adapter",
    library="peft",
    cause="the state dictionary leaves out a trained part, or is not put back",
    cases=names,
)
def state_round_trip(name: str, seed: int) -> Iterator[str]:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model = trained(name, seed)
    expected = logits(model, name)
    state = {key: value.detach().clone() for key, value in get_peft_model_state_dict(model).items()}
    if VARIANTS[name].rewrites or VARIANTS[name].config in DRAWN:
        raise NotApplicable("what it multiplies is drawn anew")
    other = adapted(name, seed)
    set_peft_model_state_dict(other, state)
    away = distance(logits(other, name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} after the state was put into a new adapter"


@probe(
    "adapter-loads-without-memory",
    "saving",
    "loading with low_cpu_mem_usage=True gives the same adapter, nothing left empty",
    library="peft",
    cause="the fast path of loading leaves tensors empty (meta) or at random values",
    cases=lambda: names(is_lora=True),
    needs="peft>=0.13",
)
def loads_without_memory(name: str, seed: int) -> Iterator[str]:
    if VARIANTS[name].rewrites:
        raise NotApplicable("its initialisation changes the base, which needs real tensors")
    model = trained(name, seed)
    expected = logits(model, name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = load(name, folder, low_cpu_mem_usage=True)
    empty = [key for key, p in again.named_parameters() if p.device.type == "meta"]
    if empty:
        yield f"{len(empty)} tensors are left without values: {', '.join(empty[:3])}"
    elif not distance(logits(again, name), expected) <= tolerance(expected):
        yield "logits differ from those of the adapter that was saved"


@probe(
    "trained-embedding-is-in-the-file",
    "saving",
    "an adapter on the embedding stores the embedding, however it is named",
    library="peft",
    cause='save_embedding_layers="auto" does not see that the targets name the embedding',
    cases=lambda: ("lora-embedding", "lora-embedding-regex"),
    needs="peft>=0.7",
    links=[f"{PEFT}pull/2649"],
)
def embedding_in_the_file(name: str, seed: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        trained(name, seed).save_pretrained(folder)
        keys = sorted(stored(folder))
    if not any("embed_tokens" in key and "lora" not in key for key in keys):
        targets = config_of(name).target_modules
        yield f"none of the {len(keys)} tensors is the embedding under the adapter, with targets {targets!r}"


@probe(
    "converted-residual-is-plain-lora",
    "saving",
    "PiSSA and OLoRA adapters convert to plain LoRA on the unchanged base",
    library="peft",
    cause="the conversion does not subtract what initialisation took from the base",
    cases=lambda: tuple(n for n in names(rewrites=True) if VARIANTS[n].merges and "fast" not in n),
    needs="peft>=0.13",
)
def converts_to_lora(name: str, seed: int) -> Iterator[str]:
    from ..models import moved

    model = adapted(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(f"{folder}/start")
        model.peft_config["default"].init_lora_weights = VARIANTS[name].settings["init_lora_weights"]
        moved(model, 0.1, only_trainable=True)
        expected = logits(model, name)
        model.save_pretrained(f"{folder}/end", path_initial_model_for_weight_conversion=f"{folder}/start")
        again = load(name, f"{folder}/end")
    away = distance(logits(again, name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} after conversion"


@probe(
    "half-precision-adapter-file",
    "saving",
    "an adapter on a bfloat16 base trains in float32 and loads as it was saved",
    library="peft",
    cause="adapter weights are rounded to the base's precision when they are put on, saved or loaded",
    cases=lambda: ("lora", "lora-saved-head", "lora-embedding", "dora", "ia3", "loha"),
    needs="peft>=0.12",
)
def half_precision(name: str, seed: int) -> Iterator[str]:
    import torch
    from peft import PeftModel, get_peft_model

    from ..models import moved

    def base() -> Any:
        return base_of(name).to(torch.bfloat16)

    torch.manual_seed(seed)
    model = moved(get_peft_model(base(), config_of(name)).eval(), only_trainable=True)
    kinds = {str(p.dtype) for key, p in model.named_parameters() if p.requires_grad and "modules_to_save" not in key}
    if kinds != {"torch.float32"}:
        yield f"adapter weights on a bfloat16 base are {', '.join(sorted(kinds))}, not float32"
    before = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = dict(PeftModel.from_pretrained(base(), folder).named_parameters())
    for key, value in before.items():
        if key not in again or distance(value, again[key]) != 0:
            yield f"{key} is not what was saved"
            return
