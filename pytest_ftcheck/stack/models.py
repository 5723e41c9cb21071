"""The variety of models: tiny, random, offline; one for each way in which architectures are known to differ.

Tied and untied heads, Conv1D, scaled embeddings, fused and listed experts, biased heads, relative positions, encoders
with and without decoders. Each is a configuration and two class names of transformers, so that listing imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import NotApplicable
from ..tasks.instruction import BEGIN, END, PAD, VOCABULARY

if TYPE_CHECKING:
    from torch import Tensor, nn

Task = Literal["causal", "seq2seq", "masked", "classes", "token classes", "spans"]

# The class of transformers that loads a checkpoint of each task by its configuration.
AUTO_CLASSES: dict[Task, str] = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "masked": "AutoModelForMaskedLM",
    "classes": "AutoModelForSequenceClassification",
    "token classes": "AutoModelForTokenClassification",
    "spans": "AutoModelForQuestionAnswering",
}
CLASSES = 3


@dataclass(frozen=True)
class Architecture:
    """``config`` and ``model`` are names in transformers; ``settings`` are the configuration's arguments."""

    config: str
    model: str
    task: Task = "causal"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.config.removesuffix("Config")


_TOKENS: dict[str, Any] = dict(vocab_size=VOCABULARY, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END)
_WIDE: dict[str, Any] = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
_COMMON: dict[str, Any] = {**_TOKENS, **_WIDE, "max_position_embeddings": 64}
_GROUPED: dict[str, Any] = {**_COMMON, "num_key_value_heads": 2}
_GPT: dict[str, Any] = dict(**_TOKENS, n_embd=32, n_layer=2, n_head=4, n_positions=64)
_T5: dict[str, Any] = dict(
    vocab_size=VOCABULARY, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=PAD,
    d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
)  # fmt: skip
_BART: dict[str, Any] = dict(
    **_TOKENS, decoder_start_token_id=END, forced_eos_token_id=None, max_position_embeddings=64, d_model=32,
    encoder_layers=1, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=64, decoder_ffn_dim=64,
)  # fmt: skip
_GEMMA: dict[str, Any] = {**_GROUPED, "head_dim": 8}
_EXPERTS: dict[str, Any] = dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=16)
_LABELLED: dict[str, Any] = {**_COMMON, "num_labels": CLASSES}
_DEEPSEEK: dict[str, Any] = dict(
    q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8, n_routed_experts=4, n_group=2,
    topk_group=1, num_experts_per_tok=2, first_k_dense_replace=1, moe_intermediate_size=16,
)  # fmt: skip


def _causal(base: str, settings: Mapping[str, Any], head: str = "ForCausalLM", **more: Any) -> Architecture:
    return Architecture(f"{base}Config", f"{base}{head}", "causal", {**settings, **more})


ARCHITECTURES: dict[str, Architecture] = {
    "llama": _causal("Llama", _GROUPED, tie_word_embeddings=False),
    "llama-tied": _causal("Llama", _GROUPED, tie_word_embeddings=True),
    "llama-biased": _causal("Llama", _GROUPED, tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "gpt2": _causal("GPT2", _GPT, head="LMHeadModel"),
    "gpt2-untied": _causal("GPT2", _GPT, head="LMHeadModel", tie_word_embeddings=False),
    "gpt-neox": _causal("GPTNeoX", _COMMON),
    "gpt-neo": _causal(
        "GPTNeo", {**_TOKENS, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64},
        attention_types=[[["global", "local"], 1]],
    ),
    "gptj": _causal("GPTJ", _GPT, rotary_dim=4),
    "bloom": _causal("Bloom", {**_TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": _causal("Falcon", _COMMON, multi_query=True, parallel_attn=True, bias=False),
    "opt": _causal("OPT", _COMMON, ffn_dim=64, word_embed_proj_dim=32),
    "phi": _causal("Phi", _COMMON),
    "phi3": _causal("Phi3", _GROUPED),
    "qwen2": _causal("Qwen2", _GROUPED),
    "qwen2-tied": _causal("Qwen2", _GROUPED, tie_word_embeddings=True),
    "qwen3": _causal("Qwen3", _GEMMA),
    "gemma": _causal("Gemma", _GEMMA),
    "gemma2": _causal("Gemma2", _GEMMA, query_pre_attn_scalar=8, sliding_window=8),
    "gemma3": Architecture("Gemma3TextConfig", "Gemma3ForCausalLM", "causal", {**_GEMMA, "sliding_window": 8}),
    "gemma3-untied": Architecture(
        "Gemma3TextConfig", "Gemma3ForCausalLM", "causal", {**_GEMMA, "sliding_window": 8, "tie_word_embeddings": False}
    ),
    "mistral": _causal("Mistral", _GROUPED, sliding_window=8),
    "mixtral": _causal("Mixtral", _GROUPED, num_local_experts=3, num_experts_per_tok=2),
    "qwen2-moe": _causal("Qwen2Moe", _GROUPED, **_EXPERTS, shared_expert_intermediate_size=16),
    "qwen3-moe": _causal("Qwen3Moe", _GEMMA, **_EXPERTS),
    "olmoe": _causal("Olmoe", _GROUPED, num_experts=3, num_experts_per_tok=2),
    "deepseek-v3": _causal("DeepseekV3", {**_COMMON, "num_key_value_heads": 4}, **_DEEPSEEK),
    "gpt-oss": _causal("GptOss", _GEMMA, num_local_experts=3, num_experts_per_tok=2, sliding_window=8),
    "stablelm": _causal("StableLm", _GROUPED, use_qkv_bias=True),
    "starcoder2": _causal("Starcoder2", _GROUPED),
    "olmo2": _causal("Olmo2", _GROUPED),
    "cohere": _causal("Cohere", _GROUPED),
    "granite": _causal("Granite", _GROUPED, embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5),
    "mamba": _causal("Mamba", {**_TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "t5": Architecture("T5Config", "T5ForConditionalGeneration", "seq2seq", _T5),
    "t5-untied": Architecture(
        "T5Config", "T5ForConditionalGeneration", "seq2seq",
        {**_T5, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    ),
    "mt5": Architecture("MT5Config", "MT5ForConditionalGeneration", "seq2seq", {**_T5, "tie_word_embeddings": False}),
    "longt5-untied": Architecture(
        "LongT5Config", "LongT5ForConditionalGeneration", "seq2seq",
        {**_T5, "tie_word_embeddings": False, "local_radius": 4},
    ),
    "bart": Architecture("BartConfig", "BartForConditionalGeneration", "seq2seq", _BART),
    "pegasus": Architecture("PegasusConfig", "PegasusForConditionalGeneration", "seq2seq", _BART),
    "bert-masked": Architecture("BertConfig", "BertForMaskedLM", "masked", _COMMON),
    "roberta-masked": Architecture("RobertaConfig", "RobertaForMaskedLM", "masked", _COMMON),
    "distilbert-masked": Architecture(
        "DistilBertConfig", "DistilBertForMaskedLM", "masked",
        {**_TOKENS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
    ),
    "electra-masked": Architecture("ElectraConfig", "ElectraForMaskedLM", "masked", {**_COMMON, "embedding_size": 16}),
    "albert-masked": Architecture("AlbertConfig", "AlbertForMaskedLM", "masked", {**_COMMON, "embedding_size": 16}),
    "modernbert-masked": Architecture(
        "ModernBertConfig", "ModernBertForMaskedLM", "masked",
        {**_COMMON, "local_attention": 8, "cls_token_id": BEGIN, "sep_token_id": END, "reference_compile": False},
    ),
    "deberta-masked": Architecture("DebertaV2Config", "DebertaV2ForMaskedLM", "masked", _COMMON),
    "bert-classifier": Architecture("BertConfig", "BertForSequenceClassification", "classes", _LABELLED),
    "roberta-classifier": Architecture("RobertaConfig", "RobertaForSequenceClassification", "classes", _LABELLED),
    "deberta-classifier": Architecture("DebertaV2Config", "DebertaV2ForSequenceClassification", "classes", _LABELLED),
    "gpt2-classifier": Architecture(
        "GPT2Config", "GPT2ForSequenceClassification", "classes", {**_GPT, "num_labels": CLASSES}
    ),
    "llama-classifier": Architecture(
        "LlamaConfig", "LlamaForSequenceClassification", "classes", {**_GROUPED, "num_labels": CLASSES}
    ),
    "bert-token-classifier": Architecture("BertConfig", "BertForTokenClassification", "token classes", _LABELLED),
    "llama-token-classifier": Architecture(
        "LlamaConfig", "LlamaForTokenClassification", "token classes", {**_GROUPED, "num_labels": CLASSES}
    ),
    "bert-spans": Architecture("BertConfig", "BertForQuestionAnswering", "spans", _COMMON),
}  # fmt: skip


def from_transformers(name: str) -> Any:
    """The class of transformers called ``name``. NotApplicable where the installed release has none."""
    import transformers

    try:
        return getattr(transformers, name)
    except (AttributeError, ImportError, RuntimeError):
        raise NotApplicable(f"transformers {transformers.__version__} has no {name}") from None


def build(name: str, seed: int = 0, **changes: Any) -> Any:
    """The model called ``name``, an nn.Module in training mode; ``changes`` go to its configuration. The same weights
    for the same arguments under one release. NotApplicable where the installed transformers lacks the architecture.
    """
    import torch

    one = ARCHITECTURES[name]
    config = from_transformers(one.config)(**{**one.settings, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return from_transformers(one.model)(config).train()


def moved(model: Any, by: float = 0.1, seed: int = 1, only_trainable: bool = False) -> Any:
    """``model`` itself, every parameter changed at random by about ``by``: no two are equal and none is at its initial
    value, as after a long training. Tied parameters stay tied.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad or not only_trainable:
                parameter.add_(by * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


def still(name: str, **changes: Any) -> Any:
    """The model called ``name``, moved off its initial values, in evaluation mode."""
    return moved(build(name, **changes)).eval()


def batch(name: str, rows: int = 3, seed: int = 3) -> dict[str, Tensor]:
    """Inputs of the model called ``name``, padded on the right, with labels of its task."""
    import torch

    task = ARCHITECTURES[name].task
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([12, 9, 5])[:rows]
    mask = (torch.arange(12) < lengths[:, None]).long()
    ids = torch.randint(3, VOCABULARY, (rows, 12), generator=generator)
    inputs = {"input_ids": ids * mask + PAD * (1 - mask), "attention_mask": mask}
    if task == "classes":
        return {**inputs, "labels": torch.arange(rows) % CLASSES}
    if task == "spans":
        return {**inputs, "start_positions": torch.ones(rows).long(), "end_positions": lengths - 2}
    labels = ids % CLASSES if task == "token classes" else ids
    labels = labels.masked_fill(mask == 0, -100)
    return {**inputs, "labels": labels.roll(1, 0) if task == "seq2seq" else labels}


def logits_of_model(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The logits, in float32, of ``model`` in evaluation mode; of a span model those of start and end, stacked."""
    import torch

    from ..isolation import evaluation_mode

    with torch.no_grad(), evaluation_mode(model):
        output = model(**inputs)
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits]).float()
    return output.logits.float()  # type: ignore[no-any-return]


def auto_class(name: str) -> Any:
    """The Auto class of transformers for the model called ``name``."""
    return from_transformers(AUTO_CLASSES[ARCHITECTURES[name].task])
