"""Probes of what a model is before it trains: its initial weights, its buffers, its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...tasks.instruction import VOCABULARY
from ..breaks import square_mask
from ..models import ARCHITECTURES, auto_class, batch, build, from_transformers, still
from ..probe import Control, distance, probe

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"


@probe(
    "initial-weights-follow-the-seed",
    "parameters",
    "the same seed gives the same initial weights, sound ones",
    library="transformers",
    cause="weights are left as the memory was, drawn from elsewhere, or initialised twice",
    cases=lambda: tuple(ARCHITECTURES),
)
def initial_weights(name: str, seed: int) -> Iterator[str]:
    one, other = dict(build(name, seed=3).named_parameters()), dict(build(name, seed=3).named_parameters())
    for key, parameter in one.items():
        if distance(parameter, other[key]) != 0:
            yield f"{key} differs between two models from one seed"
            return
        if not bool(parameter.isfinite().all()) or not float(parameter.abs().max()) < 1e3:
            yield f"{key} begins with values up to {float(parameter.abs().max()):.1e}"
            return
        if parameter.dim() > 1 and float(parameter.float().std()) == 0 and _is_drawn(key):
            yield f"{key}, a matrix, begins with {parameter.flatten()[0]:g} everywhere"
            return


def _is_drawn(key: str) -> bool:
    return not any(part in key for part in ("A_log", "norm", "token_type", "sinks", "bias"))


@probe(
    "new-head-is-initialised",
    "parameters",
    "a classifier's head on a checkpoint without one is drawn, from the seed",
    library="transformers",
    cause="parameters that the checkpoint lacks stay empty, zero, or are drawn from elsewhere",
    cases=lambda: (
        "bert-classifier",
        "llama-classifier",
        "gpt2-classifier",
        "roberta-classifier",
        "bert-token-classifier",
    ),
)
def new_head(name: str, seed: int) -> Iterator[str]:
    import tempfile

    import torch

    heads, bodies = [], []
    with tempfile.TemporaryDirectory() as folder:
        backbone = {"bert": "bert-masked", "roberta": "roberta-masked"}.get(name.split("-")[0], name.split("-")[0])
        source = still(backbone)
        source.save_pretrained(folder)
        for _ in range(2):
            torch.manual_seed(11)
            model = auto_class(name).from_pretrained(folder, num_labels=3)
            key = next(k for k, p in model.named_parameters() if len(p) == 3 and p.dim() == 2 and "embed" not in k)
            heads.append(dict(model.named_parameters())[key].detach().float())
            bodies.append(model.get_input_embeddings().weight.detach())
    head = heads[0]
    if not bool(head.isfinite().all()) or float(head.std()) == 0 or not float(head.std()) < 1:
        yield f"the new head {key} has standard deviation {float(head.std()):.3g}"
    if distance(head, heads[1]) != 0:
        yield "the same seed gives two different new heads"
    if distance(bodies[0], source.get_input_embeddings().weight) != 0:
        yield "the embedding is not the checkpoint's"


@probe(
    "buffers-grow-with-length-not-its-square",
    "memory",
    "a model's buffers do not grow with the square of its longest input",
    library="transformers",
    cause="a causal mask of max_position_embeddings × max_position_embeddings is kept as a buffer",
    cases=lambda: (
        "llama",
        "gemma",
        "gemma2",
        "gemma3",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen3",
        "phi",
        "phi3",
        "olmo2",
        "cohere",
        "stablelm",
        "starcoder2",
        "granite",
        "qwen2-moe",
    ),
    control=Control("llama", square_mask),
    links=[f"{ISSUES}29484"],
)
def small_buffers(name: str, seed: int) -> Iterator[str]:
    length = 4096
    model = build(name, max_position_embeddings=length)
    size = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    # Tables of sines and cosines, in every layer, are length × 8 numbers of 4 bytes each.
    if not size <= length * length // 4:
        largest = max(model.named_buffers(), key=lambda item: item[1].numel())
        shape = tuple(largest[1].shape)
        yield f"{size} bytes of buffers for a longest input of {length}; the largest is {largest[0]} {shape}"


@probe(
    "configuration-needs-no-tokens",
    "conduct",
    "a model is built from a configuration that names no special tokens",
    library="transformers",
    cause="the configuration lost the default of a field that the model reads",
    cases=lambda: tuple(n for n in ARCHITECTURES if ARCHITECTURES[n].task == "causal"),
)
def needs_no_tokens(name: str, seed: int) -> Iterator[str]:
    one = ARCHITECTURES[name]
    settings: Mapping[str, Any] = {k: v for k, v in one.settings.items() if not k.endswith("_token_id")}
    config = from_transformers(one.config)(**settings)
    padding = getattr(config, "pad_token_id", None)
    if padding is not None and not 0 <= padding < VOCABULARY:
        config.pad_token_id = None
    model = from_transformers(one.model)(config)
    inputs = batch(name)
    if not bool(model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.isfinite().all()):
        yield "its logits are not finite"
