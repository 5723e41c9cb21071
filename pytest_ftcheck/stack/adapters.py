"""The variety of adapters: kinds, initialisations and targets, each on a model that shows what the others hide."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .models import ARCHITECTURES, batch, build, logits_of_model
from .probe import from_peft
from .releases import require

if TYPE_CHECKING:
    from torch import Tensor

PICTURES = "pictures"


@dataclass(frozen=True)
class Variant:
    """An adapter on an architecture: the name of its configuration in peft, and that one's arguments.

    ``identity``: it starts as the base model. ``rewrites``: putting it on changes the base's own weights or layers, so
    the base cannot be had back by disabling it. ``merges``: it can be merged into the base.
    """

    architecture: str
    config: str = "LoraConfig"
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "peft"
    identity: bool = True
    rewrites: bool = False
    merges: bool = True

    @property
    def is_lora(self) -> bool:
        return self.config == "LoraConfig"

    @property
    def trains_base_parts(self) -> bool:
        """Whether it trains biases of the base, or copies of whole modules, as declared or for a task's head."""
        return self.trains_biases or bool(self.settings.get("modules_to_save")) or "CLS" in str(self.task)

    @property
    def trains_biases(self) -> bool:
        return str(self.settings.get("bias", "none")) != "none"

    @property
    def task(self) -> str:
        return str(self.settings.get("task_type", ""))

    @property
    def is_plain_lora(self) -> bool:
        """ΔW = scaling · B A, with a scaling that the configuration alone says."""
        return self.is_lora and not bool(self.settings.get("use_dora"))


def _lora(architecture: str, targets: Any, needs: str = "peft", **settings: Any) -> Variant:
    """LoRA of rank 4 and alpha 12: alpha / r is 3, not 1 or 2."""
    rewriting = str(settings.get("init_lora_weights", "")).split("_")[0] in ("pissa", "olora", "corda")
    return Variant(
        architecture, "LoraConfig", {"r": 4, "lora_alpha": 12, "target_modules": targets, **settings}, needs,
        rewrites=rewriting,
    )  # fmt: skip


def _other(config: str, architecture: str, needs: str = "peft", **settings: Any) -> Variant:
    return Variant(architecture, config, settings, needs)


def _virtual(config: str, architecture: str, task: str, **settings: Any) -> Variant:
    """Four virtual tokens in front of the input."""
    shared = {"task_type": task, "num_virtual_tokens": 4}
    return Variant(architecture, config, {**shared, **settings}, identity=False, merges=False)


_QV = ["q_proj", "v_proj"]
_LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_MANY = [
    f"layers.{i}.{part}.{name}"
    for i in (0, 1)
    for part, name in [("self_attn", n) for n in _LLAMA[:4]] + [("mlp", n) for n in _LLAMA[4:]]
]
_CONV1D: dict[str, Any] = {"fan_in_fan_out": True}
_ADALORA: dict[str, Any] = dict(target_r=4, init_r=6, lora_alpha=64, total_step=200, tinit=20, tfinal=20)

VARIANTS: dict[str, Variant] = {
    "lora": _lora("llama", _QV),
    "lora-every-linear": _lora("llama", "all-linear", needs="peft>=0.8"),
    "lora-many-names": _lora("llama", _MANY + [f"absent.{i}.q_proj" for i in range(12)]),
    "lora-last-layer": _lora("llama", _QV, layers_to_transform=[1]),
    "lora-one-layer-by-name": _lora("llama", r"model\.layers\.1\.self_attn\.(q|o)_proj"),
    "lora-embedding": _lora("llama", ["embed_tokens", "q_proj"]),
    "lora-embedding-regex": _lora("llama", r".*(embed_.*|q_proj)$"),
    "lora-scaled-embedding": _lora("gemma3-untied", ["embed_tokens", "q_proj"]),
    "lora-head": _lora("llama", ["lm_head", "q_proj"]),
    "lora-biased-layers": _lora("llama-biased", _LLAMA),
    "lora-bias-all": _lora("llama-biased", _QV, bias="all"),
    "lora-bias-own": _lora("qwen2", _QV, bias="lora_only"),
    "lora-saved-head": _lora("llama", _QV, modules_to_save=["lm_head"]),
    "lora-saved-two": _lora("llama", _QV, modules_to_save=["lm_head", "embed_tokens"]),
    "lora-saved-norm": _lora("llama", _QV, modules_to_save=["input_layernorm", "norm"]),
    "lora-patterns": _lora(
        "llama", _QV, rank_pattern={"q_proj": 8}, alpha_pattern={"self_attn.q_proj": 64, "layers.0.self_attn.v_proj": 2}
    ),
    "lora-rank-pattern-regex": _lora("llama", _QV, rank_pattern={r".*\.1\.self_attn\.v_proj": 2}),
    "rslora": _lora("llama", _QV, needs="peft>=0.8", use_rslora=True),
    "rslora-patterns": _lora("llama", _QV, needs="peft>=0.8", use_rslora=True, rank_pattern={"v_proj": 9}),
    "lora-gaussian": _lora("llama", _QV, needs="peft>=0.6", init_lora_weights="gaussian"),
    "lora-tied": _lora("llama-tied", _LLAMA),
    "lora-excluded": _lora("llama", _LLAMA, needs="peft>=0.14", exclude_modules=["k_proj", "down_proj"]),
    "lora-bias-of-b": _lora("llama-biased", _QV, needs="peft>=0.14", lora_bias=True),
    "lora-tokens": _lora("llama", _QV, needs="peft>=0.15", trainable_token_indices={"embed_tokens": [3, 5]}),
    "lora-tokens-tied": _lora("llama-tied", _QV, needs="peft>=0.16", trainable_token_indices={"embed_tokens": [3, 5]}),
    "lora-replicated": Variant(
        "llama", "LoraConfig",
        {"r": 4, "lora_alpha": 12, "target_modules": _QV, "layer_replication": [[0, 2], [1, 2]]}, "peft>=0.10",
        identity=False, rewrites=True, merges=False,
    ),
    "lora-gpt2": _lora("gpt2", ["c_attn", "c_proj", "c_fc"], **_CONV1D),
    "lora-gpt2-undeclared": _lora("gpt2", ["c_attn"]),
    "lora-neox": _lora("gpt-neox", ["query_key_value", "dense_h_to_4h"]),
    "lora-falcon": _lora("falcon", ["query_key_value"]),
    "lora-phi": _lora("phi", _QV),
    "lora-opt": _lora("opt", ["q_proj", "v_proj", "fc1"]),
    "lora-t5": _lora("t5-untied", ["q", "v", "wi_0"], modules_to_save=["lm_head"], task_type="SEQ_2_SEQ_LM"),
    "lora-bert-classifier": _lora("bert-classifier", ["query", "value"], task_type="SEQ_CLS"),
    "lora-llama-classifier": _lora("llama-classifier", _QV, task_type="SEQ_CLS"),
    "lora-bert-tokens": _lora("bert-token-classifier", ["query", "value"], task_type="TOKEN_CLS"),
    "lora-mixtral": _lora("mixtral", _QV),
    "lora-mixtral-gate": _lora("mixtral", ["q_proj"], modules_to_save=["gate"]),
    "lora-qwen2-moe": _lora("qwen2-moe", ["q_proj", "shared_expert.down_proj"]),
    "lora-qwen2-moe-last-layer": _lora("qwen2-moe", ["shared_expert.down_proj", "v_proj"], layers_to_transform=[1]),
    "lora-expert-parameters": _lora(
        "gpt-oss", ["q_proj"], needs="peft>=0.17", target_parameters=["mlp.experts.gate_up_proj"]
    ),
    "lora-mamba": _lora("mamba", ["in_proj", "x_proj"]),
    "lora-pictures": _lora(PICTURES, ["convolution", "line", "mix", "head"]),
    "lora-pictures-1d": _lora(PICTURES, ["waves", "head"], needs="peft>=0.14"),
    "lora-self-attention": _lora(PICTURES, ["attention", "head"], needs="peft>=0.14"),
    "dora": _lora("llama", _LLAMA, needs="peft>=0.9", use_dora=True),
    "dora-biased-layers": _lora("llama-biased", _QV, needs="peft>=0.9", use_dora=True),
    "dora-gpt2": _lora("gpt2", ["c_attn"], needs="peft>=0.9", use_dora=True, **_CONV1D),
    "dora-gpt2-square": _lora("gpt2", ["attn.c_proj"], needs="peft>=0.9", use_dora=True, **_CONV1D),
    "dora-embedding": _lora("llama", ["embed_tokens", "q_proj"], needs="peft>=0.12", use_dora=True),
    "dora-rslora": _lora("llama", _QV, needs="peft>=0.9", use_dora=True, use_rslora=True),
    "dora-saved-head": _lora("llama", _QV, needs="peft>=0.9", use_dora=True, modules_to_save=["lm_head"]),
    "dora-pictures": _lora(PICTURES, ["convolution", "line"], needs="peft>=0.12", use_dora=True),
    "pissa": _lora("llama", _QV, needs="peft>=0.10", init_lora_weights="pissa"),
    "pissa-fast": _lora("llama", _QV, needs="peft>=0.10", init_lora_weights="pissa_niter_4"),
    "pissa-rslora": _lora("llama", _QV, needs="peft>=0.10", init_lora_weights="pissa", use_rslora=True),
    "pissa-gpt2": _lora("gpt2", ["c_attn"], needs="peft>=0.10", init_lora_weights="pissa", **_CONV1D),
    "pissa-gpt2-square": _lora("gpt2", ["attn.c_proj"], needs="peft>=0.10", init_lora_weights="pissa", **_CONV1D),
    "olora": _lora("llama", _QV, needs="peft>=0.12", init_lora_weights="olora"),
    "orthogonal": _lora("llama", _QV, needs="peft>=0.17", init_lora_weights="orthogonal"),
    "adalora": _other("AdaLoraConfig", "llama", target_modules=_QV, **_ADALORA),
    "adalora-gpt2": _other("AdaLoraConfig", "gpt2", target_modules=["c_attn"], **_ADALORA, **_CONV1D),
    "ia3": _other(
        "IA3Config", "llama", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "ia3-gpt2": _other(
        "IA3Config", "gpt2", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], **_CONV1D
    ),
    "ia3-t5": _other("IA3Config", "t5", target_modules=["k", "v", "wo"], feedforward_modules=["wo"]),
    "loha": _other("LoHaConfig", "llama", r=4, alpha=12, target_modules=_QV),
    "loha-pictures": _other("LoHaConfig", PICTURES, r=4, alpha=12, target_modules=["convolution", "line"]),
    "lokr": _other("LoKrConfig", "llama", r=4, alpha=12, target_modules=_QV),
    "lokr-pictures": _other("LoKrConfig", PICTURES, r=4, alpha=12, target_modules=["convolution", "line"]),
    "oft": _other("OFTConfig", "llama", needs="peft>=0.15", r=0, oft_block_size=8, target_modules=_QV),
    "boft": _other("BOFTConfig", "llama", boft_block_size=4, target_modules=["q_proj"]),
    "vera": _other("VeraConfig", "llama", r=8, target_modules=_QV, d_initial=0.1),
    "vera-gpt2": _other("VeraConfig", "gpt2", r=8, target_modules=["c_attn"], **_CONV1D),
    "hra": _other("HRAConfig", "llama", r=4, target_modules=_QV),
    "fourier": _other("FourierFTConfig", "llama", n_frequency=16, target_modules=_QV, scaling=30.0, init_weights=True),
    "norms": _other("LNTuningConfig", "llama", target_modules=["input_layernorm", "norm"]),
    "miss": _other("MissConfig", "llama", r=4, target_modules=_QV),
    "shira": _other("ShiraConfig", "llama", r=4, target_modules=_QV),
    "randlora": _other("RandLoraConfig", "llama", r=8, randlora_alpha=16, target_modules=_QV),
    "c3a": Variant("llama", "C3AConfig", {"block_size": 8, "target_modules": ["q_proj"]}, identity=False),
    "road": _other("RoadConfig", "llama", group_size=8, target_modules=_QV),
    "tokens": _other("TrainableTokensConfig", "llama", token_indices=[3, 5], target_modules=["embed_tokens"]),
    "prompt": _virtual("PromptTuningConfig", "gpt2", "CAUSAL_LM"),
    "prompt-classifier": _virtual("PromptTuningConfig", "bert-classifier", "SEQ_CLS"),
    "prefix": _virtual("PrefixTuningConfig", "llama", "CAUSAL_LM"),
    "prefix-t5": _virtual("PrefixTuningConfig", "t5", "SEQ_2_SEQ_LM"),
    "prefix-classifier": _virtual("PrefixTuningConfig", "bert-classifier", "SEQ_CLS"),
    "p-tuning": _virtual("PromptEncoderConfig", "llama", "CAUSAL_LM", encoder_hidden_size=16),
}  # fmt: skip


def names(**wanted: bool) -> tuple[str, ...]:
    """The variants whose attributes are as ``wanted``."""
    return tuple(name for name, v in VARIANTS.items() if all(getattr(v, key) == value for key, value in wanted.items()))


def base_of(name: str) -> Any:
    """The model under the variant, in evaluation mode, moved off its initial values; the same at every call."""
    from .models import moved

    architecture = VARIANTS[name].architecture
    return moved(pictures() if architecture == PICTURES else build(architecture), 0.05).eval()


def config_of(name: str, **changes: Any) -> Any:
    """The variant's configuration, made anew. NotApplicable where the installed peft lacks its kind."""
    variant = VARIANTS[name]
    require(variant.needs)
    kind = from_peft(variant.config)
    try:
        return kind(**{**variant.settings, **changes})
    except TypeError as error:
        raise NotApplicable(f"the installed peft does not know the setting: {error}") from None


def adapted(name: str, seed: int = 0, **changes: Any) -> Any:
    """The PeftModel of a variant, in evaluation mode; ``changes`` go to its configuration."""
    import torch
    from peft import get_peft_model

    config, base = config_of(name, **changes), base_of(name)
    torch.manual_seed(seed + 1)
    return get_peft_model(base, config).eval()


def trained(name: str, seed: int = 0, by: float = 0.1) -> Any:
    """``adapted``, with everything trainable moved at random, as after a training."""
    from .models import moved

    return moved(adapted(name, seed), by, seed=seed + 2, only_trainable=True)


def inputs_of(name: str) -> dict[str, Tensor]:
    """Inputs for the variant's model; with labels where the model needs them (encoder-decoders) only."""
    import torch

    architecture = VARIANTS[name].architecture
    if architecture == PICTURES:
        return {"pictures": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))}
    made = batch(architecture)
    kept = ("input_ids", "attention_mask", "labels" if ARCHITECTURES[architecture].task == "seq2seq" else "")
    return {key: value for key, value in made.items() if key in kept}


def logits(model: Any, name: str) -> Tensor:
    """The logits of ``model``, in float32, on the variant's inputs."""
    if VARIANTS[name].architecture == PICTURES:
        import torch

        with torch.no_grad():
            return model(**inputs_of(name)).float()  # type: ignore[no-any-return]
    return logits_of_model(model, inputs_of(name))


def tolerance(of: Tensor, relative: float = 1e-4) -> float:
    """How far logits may be from ``of``: the same sums in another order differ by 1e-6 of their size, a factorisation
    and its product by up to 2e-5; the mildest defect that was seen is 1e-3.
    """
    return relative * max(1.0, float(of.abs().max()))


@functools.cache
def _pictures_class() -> Any:
    from torch import nn

    class Pictures(nn.Module):
        """Layers that language models have not: convolutions in two and one dimensions, and torch's own attention."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3, padding=1)
            self.line = nn.Conv2d(8, 8, (1, 3), stride=2, padding=(0, 1), bias=False)
            self.waves = nn.Conv1d(8, 8, 3, padding=1)
            self.mix = nn.Linear(8, 8, bias=False)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 5)

        def forward(self, pictures: Tensor) -> Tensor:
            hidden = self.line(self.convolution(pictures).tanh()).flatten(2)
            hidden = self.waves(hidden).tanh().transpose(1, 2)
            hidden = hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0]
            logits: Tensor = self.head(self.mix(hidden).tanh())
            return logits

    return Pictures


def pictures(seed: int = 0) -> Any:
    """A small network for pictures [rows, 3, 8, 8] that gives logits [rows, 16, 5]."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _pictures_class()()
