"""Golden checkpoints: models and adapters that an older release has saved, with the numbers that it computed on them.

They lie in the package, not in ``fixtures/``, because ``--ftcheck-audit=stack`` must judge an upgrade from an installed
wheel. Each is a folder as the older release wrote it (key names and formats are the point) and ``golden.safetensors``:
inputs, padded on the right, and logits; loss and norm of the gradient in its metadata. No pickles. ``make_goldens.py``
writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .models import auto_class

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).parent / "golden_checkpoints"
NUMBERS = "golden.safetensors"
# Of the logits every so-manieth token is kept, to save room; loss and gradient are of all.
KEPT = 4

_SMALL = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
_SMALL_KV = {**_SMALL, "num_key_value_heads": 1}
_SMALL_T5 = dict(d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)


@dataclass(frozen=True)
class GoldenModel:
    """A checkpoint of an architecture, made small by ``settings``. ``within`` is how far newer releases may be from its
    logits, relative to their size: 1e-5 unless ``reason`` says why not.
    """

    architecture: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    release: str = "4.45.2"
    within: float = 1e-5
    reason: str = ""


@dataclass(frozen=True)
class GoldenAdapter:
    """An adapter on the golden model ``base``: the name of its configuration in peft, and that one's arguments."""

    base: str
    settings: Mapping[str, Any]
    config: str = "LoraConfig"
    within: float = 1e-5
    # Newer releases fuse the experts and convert the adapter to one of twice the rank: same outputs, other parameters.
    same_gradient: bool = True


MODELS: dict[str, GoldenModel] = {
    "llama": GoldenModel("llama", {**_SMALL_KV, "num_hidden_layers": 2}),
    "llama-tied": GoldenModel("llama-tied", _SMALL_KV),
    "gpt2": GoldenModel("gpt2", dict(n_embd=8, n_layer=1, n_head=2)),
    "gpt-neox": GoldenModel("gpt-neox", {**_SMALL, "rotary_pct": 0.5}),
    "opt": GoldenModel("opt", {**_SMALL, "ffn_dim": 16, "word_embed_proj_dim": 8}),
    "phi": GoldenModel("phi", _SMALL),
    "falcon": GoldenModel("falcon", _SMALL),
    "bloom": GoldenModel("bloom", dict(hidden_size=8, n_layer=1, n_head=2)),
    "mistral": GoldenModel("mistral", _SMALL_KV),
    "qwen2": GoldenModel("qwen2", _SMALL_KV),
    "gemma2": GoldenModel(
        "gemma2", {**_SMALL_KV, "num_hidden_layers": 2}, within=1e-3,
        reason="eager attention with a soft cap was replaced by sdpa in some releases: 1.3e-4",
    ),
    "mixtral": GoldenModel("mixtral", _SMALL_KV),
    "qwen2-moe": GoldenModel(
        "qwen2-moe", {**_SMALL_KV, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
    ),
    "t5": GoldenModel("t5", _SMALL_T5),
    "t5-untied": GoldenModel("t5-untied", _SMALL_T5),
    "longt5-untied": GoldenModel("longt5-untied", _SMALL_T5),
    "bart": GoldenModel(
        "bart",
        dict(
            d_model=8, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2,
            decoder_attention_heads=2, max_position_embeddings=32,
        ),
    ),
    "bert-masked": GoldenModel("bert-masked", {**_SMALL, "max_position_embeddings": 32}),
    "bert-classifier": GoldenModel("bert-classifier", {**_SMALL, "max_position_embeddings": 32}),
    "roberta-masked": GoldenModel("roberta-masked", {**_SMALL, "max_position_embeddings": 32}),
    "llama-classifier": GoldenModel("llama-classifier", _SMALL_KV),
    "gemma3": GoldenModel("gemma3", _SMALL_KV, release="4.57.6"),
    "qwen3": GoldenModel("qwen3", _SMALL_KV, release="4.57.6"),
    "gpt-oss": GoldenModel("gpt-oss", _SMALL_KV, release="4.57.6"),
}  # fmt: skip

_QV = ["q_proj", "v_proj"]


def _lora(base: str, targets: Any, **settings: Any) -> GoldenAdapter:
    return GoldenAdapter(base, {"r": 2, "lora_alpha": 6, "target_modules": targets, **settings})


ADAPTERS: dict[str, GoldenAdapter] = {
    "llama-lora-and-head": _lora("llama", _QV, modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    "llama-dora": _lora("llama", _QV, use_dora=True, task_type="CAUSAL_LM"),
    "llama-rslora-patterns": _lora(
        "llama", _QV, use_rslora=True, rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 9}
    ),
    "llama-lora-embedding": _lora("llama", ["embed_tokens", "q_proj"]),
    "gpt2-rslora": _lora("gpt2", ["c_attn", "c_proj"], use_rslora=True, fan_in_fan_out=True, task_type="CAUSAL_LM"),
    "mixtral-experts": replace(_lora("mixtral", ["w1", "w2", "w3", "q_proj"]), same_gradient=False),
    "mixtral-experts-in-part": replace(_lora("mixtral", ["w1", "w2", "q_proj"]), same_gradient=False),
    "t5-lora": _lora("t5", ["q", "v"], task_type="SEQ_2_SEQ_LM"),
    "bert-classifier-lora": _lora("bert-classifier", ["query", "value"], task_type="SEQ_CLS"),
    "llama-ia3": GoldenAdapter(
        "llama",
        {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        "IA3Config",
    ),
    "llama-loha": GoldenAdapter("llama", {"r": 2, "alpha": 6, "target_modules": _QV}, "LoHaConfig"),
    "llama-prompt": GoldenAdapter("llama", {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}, "PromptTuningConfig"),
}


@dataclass(frozen=True)
class Numbers:
    """What the older release computed: ``logits`` on ``inputs``, their ``loss``, and the norm of its ``gradient``."""

    inputs: dict[str, Tensor]
    logits: Tensor
    loss: float
    gradient: float
    written_by: str


def names() -> tuple[str, ...]:
    """Every golden checkpoint: models, then adapters."""
    return (*MODELS, *ADAPTERS)


def read(name: str) -> Numbers:
    """The numbers of a golden checkpoint."""
    from safetensors import safe_open

    with safe_open(FOLDER / name / NUMBERS, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        names = list(file.keys())
        tensors = {key: file.get_tensor(key) for key in names}
    logits = tensors.pop("logits")
    return Numbers(tensors, logits, facts["loss"], facts["gradient"], facts["written_by"])


def load(name: str) -> Any:
    """The model of a golden checkpoint, adapter included, as the installed releases load it, in evaluation mode."""
    if name in MODELS:
        return auto_class(MODELS[name].architecture).from_pretrained(FOLDER / name).eval()
    from peft import PeftModel

    base = load(ADAPTERS[name].base)
    return PeftModel.from_pretrained(base, str(FOLDER / name), is_trainable=_may_train(name)).eval()


def _may_train(name: str) -> bool:
    return not ADAPTERS[name].config.startswith("Prompt")


def compute(model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, float, float]:
    """Logits (of every fourth token), loss, and the norm of the gradient over all that is trainable."""
    import torch

    model.zero_grad()
    output = model(**inputs)
    output.loss.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    gradient = float(torch.stack(norms).norm()) if norms else 0.0
    return output.logits.detach().float()[..., ::KEPT].contiguous(), float(output.loss.detach()), gradient
