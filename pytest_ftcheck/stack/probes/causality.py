"""A probe of what a token may not see: those that come after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...tasks.instruction import BEGIN, END, PAD, VOCABULARY
from ..adapters import tolerance
from ..breaks import masks_forgotten
from ..models import ARCHITECTURES, from_transformers, moved, still
from ..probe import Control, distance, probe

ISSUES = "https://github.com/huggingface/transformers/issues/"
_DECODER: dict[str, Any] = dict(
    vocab_size=VOCABULARY, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END, hidden_size=32, num_hidden_layers=2,
    num_attention_heads=4, intermediate_size=64, max_position_embeddings=64, is_decoder=True,
)  # fmt: skip
# Encoders that become decoders by a setting, and models that make their own masks: (configuration, model, settings).
DECODERS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "bert-decoder": ("BertConfig", "BertLMHeadModel", {}),
    "roberta-decoder": ("RobertaConfig", "RobertaForCausalLM", {}),
    "electra-decoder": ("ElectraConfig", "ElectraForCausalLM", {"embedding_size": 16}),
    "roformer-decoder": ("RoFormerConfig", "RoFormerForCausalLM", {}),
    "big-bird-decoder": ("BigBirdConfig", "BigBirdForCausalLM", {"attention_type": "original_full"}),
    "rembert-decoder": (
        "RemBertConfig",
        "RemBertForCausalLM",
        {"input_embedding_size": 16, "output_embedding_size": 16},
    ),
    "megatron-decoder": ("MegatronBertConfig", "MegatronBertForCausalLM", {}),
    "doge": ("DogeConfig", "DogeForCausalLM", {"is_decoder": False}),
}


def _model(name: str) -> Any:
    import torch

    if name in ARCHITECTURES:
        return still(name)
    config, model, settings = DECODERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = from_transformers(model)(from_transformers(config)(**{**_DECODER, **settings}))
    return moved(made).eval()


@probe(
    "later-tokens-change-no-logits",
    "labels",
    "with a mask of ones and with none, the logits of a position do not depend on the tokens after it",
    library="transformers",
    cause="the causal mask is missing, so that the token to be predicted is seen: the training loss falls to nothing",
    cases=lambda: (*(n for n, one in ARCHITECTURES.items() if one.task == "causal"), *DECODERS),
    links=[f"{ISSUES}48745", f"{ISSUES}48748"],
    control=Control("llama", masks_forgotten),
)
def later_tokens(name: str, seed: int) -> Iterator[str]:
    import torch

    model = _model(name)
    ids = torch.randint(3, VOCABULARY, (1, 10), generator=torch.Generator().manual_seed(5))
    other = ids.clone()
    other[0, -1] = 3 + (ids[0, -1] - 2) % (VOCABULARY - 3)
    for masked in (True, False):
        inputs = {"attention_mask": torch.ones_like(ids)} if masked else {}
        with torch.no_grad():
            one, two = (model(input_ids=x, **inputs).logits[0, :-1].float() for x in (ids, other))
        if not distance(one, two) <= tolerance(one):
            yield (
                f"logits before a token move by {distance(one, two):.2e} with it, "
                f"{'under a mask of ones' if masked else 'without a mask'}"
            )
