"""Probes of tied weights and of vocabularies that grow and shrink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ...tasks.instruction import VOCABULARY
from ..breaks import stale_width
from ..models import ARCHITECTURES, batch, logits_of_model, still
from ..probe import Control, distance, probe

if TYPE_CHECKING:
    pass

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
LARGER, SMALLER = 70, 60


def worded() -> tuple[str, ...]:
    """The architectures whose logits are over the vocabulary."""
    return tuple(n for n in ARCHITECTURES if ARCHITECTURES[n].task in ("causal", "seq2seq", "masked"))


def _resizable(name: str) -> Any:
    model = still(name)
    if model.get_output_embeddings() is None:
        raise NotApplicable("the installed release has no output embeddings for it")
    return model


def is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


@probe(
    "resized-vocabulary-keeps-old-rows",
    "parameters",
    "after resizing, old tokens have their logits, and the head fits",
    library="transformers",
    cause="resize_token_embeddings leaves the head, its bias or its out_features at the old size, or redraws rows",
    cases=worded,
    control=Control("bert-masked", stale_width),
    links=[f"{ISSUES}45292", f"{PULLS}45311"],
)
def keeps_old_rows(name: str, seed: int) -> Iterator[str]:
    model, inputs = _resizable(name), batch(name)
    before, tied = logits_of_model(model, inputs), is_tied(model)
    for size in (LARGER, SMALLER):
        inputs = {key: value.clamp_max(SMALLER - 1) for key, value in inputs.items()} if size == SMALLER else inputs
        before = logits_of_model(model, inputs)
        model.resize_token_embeddings(size)
        yield from _fits(model, size, tied)
        after = logits_of_model(model, inputs)
        if after.shape[-1] != size:
            yield f"logits are over {after.shape[-1]} tokens after resizing to {size}"
            return
        shared = min(size, before.shape[-1])
        away = distance(after[..., :shared], before[..., :shared])
        if not away <= 1e-5 * max(1.0, float(before.abs().max())):
            yield f"logits of old tokens differ by {away:.2e} after resizing to {size}"
            return


def _fits(model: Any, size: int, tied: bool) -> Iterator[str]:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    sizes = {
        "rows of the embedding": len(embedding.weight),
        "num_embeddings": getattr(embedding, "num_embeddings", size),
        "rows of the head": len(head.weight),
        "out_features of the head": getattr(head, "out_features", size),
        "numbers in the head's bias": len(head.bias) if getattr(head, "bias", None) is not None else size,
        "config.vocab_size": getattr(model.config, "vocab_size", size),
    }
    wrong = [f"{what} {found}" for what, found in sizes.items() if found != size]
    if wrong:
        yield f"after resizing to {size}: {', '.join(wrong)}"
    if is_tied(model) != tied:
        yield f"after resizing to {size}, head and embedding are {'' if is_tied(model) else 'no longer '}one tensor"


@probe(
    "resized-rows-survive-post-init",
    "parameters",
    "post_init() after resizing redraws nothing",
    library="transformers",
    cause="the resized head counts as not initialised, and post_init() draws all of it anew",
    cases=lambda: (
        "llama",
        "llama-tied",
        "gpt2",
        "gpt2-untied",
        "gpt-neox",
        "opt",
        "mistral",
        "qwen2",
        "t5",
        "t5-untied",
        "bert-masked",
        "roberta-masked",
        "gemma",
        "phi",
        "mixtral",
        "bart",
    ),
    links=[f"{ISSUES}35141", f"{PULLS}45079"],
)
def survives_post_init(name: str, seed: int) -> Iterator[str]:
    model = _resizable(name)
    embedding, head = (
        model.get_input_embeddings().weight.detach().clone(),
        model.get_output_embeddings().weight.detach().clone(),
    )
    model.resize_token_embeddings(LARGER)
    parts = {"embedding": (model.get_input_embeddings(), embedding), "head": (model.get_output_embeddings(), head)}
    for when in ("after resizing", "after post_init()"):
        for what, (module, old) in parts.items():
            moved = distance(module.weight[:VOCABULARY], old)
            if moved != 0:
                yield f"old rows of the {what} are {moved:.3f} away {when}"
                return
        if name not in ("gpt2", "t5") or when == "after resizing":
            model.post_init()


@probe(
    "new-rows-are-like-the-old",
    "parameters",
    "rows that resizing adds are of the size of the old ones, and finite",
    library="transformers",
    cause="new rows are empty memory, zeros, or drawn with another spread",
    cases=lambda: ("llama", "llama-tied", "gpt2", "bert-masked", "t5-untied", "gemma", "opt"),
    needs="transformers>=4.30",
)
def new_rows(name: str, seed: int) -> Iterator[str]:
    model = _resizable(name)
    model.resize_token_embeddings(LARGER)
    for what, module in (("embedding", model.get_input_embeddings()), ("head", model.get_output_embeddings())):
        old, new = module.weight[:VOCABULARY].float(), module.weight[VOCABULARY:].float()
        largest = float(new.abs().max())
        if not largest <= 20 * float(old.abs().max()) or largest == 0:
            yield f"new rows of the {what} go up to {largest:.3g}; old ones up to {float(old.abs().max()):.3g}"


@probe(
    "tied-weights-are-one",
    "parameters",
    "head and embedding are one tensor exactly where the configuration ties them",
    library="transformers",
    cause="weights are tied where they should not be, or only look tied until one of them trains",
    cases=worded,
    links=[f"{PULLS}47620", f"{ISSUES}48154"],
)
def tied_weights(name: str, seed: int) -> Iterator[str]:
    import copy
    import tempfile

    model = _resizable(name)
    declared = bool(getattr(model.config, "tie_word_embeddings", True))
    if is_tied(model) != declared:
        found = "one tensor" if is_tied(model) else "two"
        yield f"tie_word_embeddings is {declared}, and head and embedding are {found}"
        return
    if is_tied(copy.deepcopy(model)) != declared:
        yield f"a deep copy has head and embedding as {'two tensors' if declared else 'one tensor'}"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder)
    if is_tied(again) != declared:
        yield f"after saving and loading, head and embedding are {'two tensors' if declared else 'one tensor'}"
