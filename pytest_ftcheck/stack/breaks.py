"""Ways in which releases have been broken, put back for a moment: the negative controls of the probes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

from ..checks.sabotages.wrapping import patched
from .models import from_transformers


@contextlib.contextmanager
def noise_at_the_start() -> Iterator[None]:
    """peft 0.11 began AdaLoRA with noise where zeros belong; here, LoRA."""
    from peft.tuners.lora import LoraLayer
    from torch import nn

    original: Any = LoraLayer.reset_lora_parameters

    def noisy(self: Any, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        original(self, adapter_name, *args, **kwargs)
        if adapter_name in self.lora_B:
            nn.init.normal_(self.lora_B[adapter_name].weight, std=0.02)

    with patched(LoraLayer, "reset_lora_parameters", noisy):
        yield


@contextlib.contextmanager
def never_disabled() -> Iterator[None]:
    """peft 0.4 used the trained copy of a saved module although the adapter was off."""
    from peft import PeftModel

    with patched(PeftModel, "disable_adapter", lambda self: contextlib.nullcontext()):
        yield


@contextlib.contextmanager
def merged_twice() -> Iterator[None]:
    """peft 0.8.1 merged again what was merged already."""
    from peft.tuners.lora.layer import Linear

    original = Linear.merge

    def merge(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.merged_adapters.clear()

    with patched(Linear, "merge", merge):
        yield


@contextlib.contextmanager
def heads_left_out() -> Iterator[None]:
    """peft 0.16 saved the prompts of a classifier without its head; here, a Llama's adapter without its head."""
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    original = PeftModel.save_pretrained

    def save(self: Any, folder: str, *args: Any, **kwargs: Any) -> None:
        original(self, folder, *args, **kwargs)
        path = f"{folder}/adapter_model.safetensors"
        save_file({key: value for key, value in load_file(path).items() if "lm_head" not in key}, path)

    with patched(PeftModel, "save_pretrained", save):
        yield


@contextlib.contextmanager
def both_adapters_saved() -> Iterator[None]:
    """peft 0.19 compared names of adapters by their beginnings."""
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    original = PeftModel.save_pretrained

    def save(self: Any, folder: str, *args: Any, **kwargs: Any) -> None:
        original(self, folder, *args, **kwargs)
        for name in kwargs.get("selected_adapters", ()):
            path = f"{folder}/{name}/adapter_model.safetensors"
            held = load_file(path)
            save_file({**held, **{f"{key}.bar": value.clone() for key, value in held.items()}}, path)

    with patched(PeftModel, "save_pretrained", save):
        yield


@contextlib.contextmanager
def nothing_rescaled() -> Iterator[None]:
    """peft 0.18 did not make larger what pruning kept."""
    import peft.utils.merge_utils as merging

    original = merging.random_pruning
    with patched(merging, "random_pruning", lambda tensor, density, rescale: original(tensor, density, False)):
        yield


@contextlib.contextmanager
def layers_not_looked_at() -> Iterator[None]:
    """peft 0.19 took the number of an expert for that of a layer; here, no number counts."""
    import copy

    from peft.tuners import tuners_utils

    original = tuners_utils.check_target_module_exists

    def matches(config: Any, key: str) -> Any:
        config = copy.copy(config)
        config.layers_to_transform = None
        return original(config, key)

    with patched(tuners_utils, "check_target_module_exists", matches):
        yield


@contextlib.contextmanager
def scaled_back_without_the_root() -> Iterator[None]:
    """peft 0.17 set the scale of rank-stabilised LoRA back as if it were plain."""
    from peft.tuners.lora.layer import LoraLayer

    def unscale(self: Any, scale: Any = None) -> None:
        for adapter in self.active_adapters:
            self.scaling[adapter] = self.lora_alpha[adapter] / self.r[adapter]

    with patched(LoraLayer, "unscale_layer", unscale):
        yield


@contextlib.contextmanager
def square_mask() -> Iterator[None]:
    """transformers 4.38 kept a causal mask of the largest length, squared, as a buffer."""
    import torch

    kind = from_transformers("LlamaModel")
    original = kind.__init__

    def made(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        original(self, config, *args, **kwargs)
        size = config.max_position_embeddings
        self.register_buffer("causal_mask", torch.ones(size, size, dtype=torch.bool), persistent=False)

    with patched(kind, "__init__", made):
        yield


@contextlib.contextmanager
def stale_width() -> Iterator[None]:
    """transformers 5.0 to 5.5 resized a tied head and left its out_features."""
    kind = from_transformers("PreTrainedModel")
    original = kind.resize_token_embeddings

    def resize(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = self.get_output_embeddings().out_features
        made = original(self, *args, **kwargs)
        self.get_output_embeddings().out_features = before
        return made

    with patched(kind, "resize_token_embeddings", resize):
        yield


@contextlib.contextmanager
def retied() -> Iterator[None]:
    """transformers 5.0 tied the head of an untied T5 to the embedding as it loaded it; here, any head."""
    kind = from_transformers("PreTrainedModel")
    original = kind.from_pretrained.__func__

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(cls, *args, **kwargs)
        model = made[0] if isinstance(made, tuple) else made
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
        return made

    # Not by ``patched``: what it would put back is bound to this one class.
    kind.from_pretrained = classmethod(load)
    try:
        yield
    finally:
        kind.from_pretrained = classmethod(original)


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """transformers 4.46 did not divide the loss by the accumulation steps; here, nobody does."""
    kind = from_transformers("Trainer")
    original = kind.compute_loss

    def compute(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) * self.args.gradient_accumulation_steps

    with patched(kind, "compute_loss", compute):
        yield


@contextlib.contextmanager
def schedule_by_micro_batches() -> Iterator[None]:
    """accelerate 0.15 stepped the schedule with every micro-batch."""
    from accelerate.scheduler import AcceleratedScheduler

    def step(self: Any, *args: Any, **kwargs: Any) -> None:
        self.scheduler.step(*args, **kwargs)

    with patched(AcceleratedScheduler, "step", step):
        yield


@contextlib.contextmanager
def first_by_name_removed() -> Iterator[None]:
    """accelerate 0.16 sorted its folders as text: 10 before 9."""
    original = shutil.rmtree

    def remove(path: Any, *args: Any, **kwargs: Any) -> None:
        parent, name = os.path.split(str(path))
        if name.startswith("checkpoint_"):
            path = os.path.join(parent, sorted(os.listdir(parent))[0])
        original(path, *args, **kwargs)

    with patched(shutil, "rmtree", remove):
        yield


@contextlib.contextmanager
def rows_cut_in_packs() -> Iterator[None]:
    """trl 0.28 let the rest of a row that did not fit in again as a row."""
    import trl.data_utils as data

    original = data.pack_dataset

    def pack(dataset: Any, length: int, *args: Any, **kwargs: Any) -> Any:
        rows = [row["input_ids"] for row in dataset]
        cut = [row[i : i + length] for row in rows for i in range(0, len(row), length)]
        return original(type(dataset).from_list([{"input_ids": part} for part in cut]), length, *args, **kwargs)

    with patched(data, "pack_dataset", pack):
        yield


@contextlib.contextmanager
def masks_forgotten() -> Iterator[None]:
    """transformers 5.9 let decoders of several families see all tokens; here, any that uses torch's attention."""
    import torch.nn.functional as F

    original = F.scaled_dot_product_attention

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return original(query, key, value, **{**kwargs, "attn_mask": None, "is_causal": False})

    with patched(F, "scaled_dot_product_attention", attention):
        yield
