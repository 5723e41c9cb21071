"""Probes of checkpoints: what was saved is what is loaded, in each way of loading."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..breaks import retied
from ..models import ARCHITECTURES, auto_class, batch, logits_of_model, still
from ..probe import Control, distance, probe
from ..releases import at_least
from .embeddings import is_tied

if TYPE_CHECKING:
    import torch

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"


REPORTED = ("missing_keys", "unexpected_keys", "mismatched_keys")


def with_dtype(dtype: torch.dtype) -> dict[str, Any]:
    """The argument of from_pretrained that asks for ``dtype``; it had another name before 4.56."""
    return {"dtype" if at_least("transformers", "4.56") else "torch_dtype": dtype}


def empty_tensors(model: Any) -> list[str]:
    """Names of the tensors of ``model`` that have no values (they are on the meta device)."""
    from itertools import chain

    tensors = chain(model.named_parameters(), model.named_buffers())
    return [name for name, tensor in tensors if tensor.device.type == "meta"]


def compare(model: Any, again: Any, name: str, relative: float = 1e-6) -> Iterator[str]:
    """Yield what differs between ``again`` and ``model``: empty tensors, logits, weights that no logit shows."""
    empty = empty_tensors(again)
    if empty:
        yield f"{len(empty)} tensors are left without values (meta): {', '.join(empty[:3])}"
        return
    wanted, found = (logits_of_model(one, batch(name)) for one in (model, again))
    if not distance(found, wanted) <= relative * max(1.0, float(wanted.abs().max())):
        yield f"logits differ by {distance(found, wanted):.2e} after loading"
        return
    before, after = dict(model.named_parameters()), dict(again.named_parameters())
    odd = sorted(set(before) ^ set(after))
    odd += [key for key in before if key in after and not distance(before[key], after[key]) <= relative]
    if odd:
        yield f"{len(odd)} parameters differ after loading: {', '.join(odd[:3])}"


@probe(
    "model-loads-as-saved",
    "saving",
    "a model that was saved and loaded computes what it did, and nothing is missing",
    library="transformers",
    cause="weights are dropped, tied, renamed or drawn anew between save_pretrained and from_pretrained",
    cases=lambda: tuple(ARCHITECTURES),
    control=Control("llama", retied),
    links=[f"{ISSUES}48154", f"{PULLS}47620"],
)
def loads_as_saved(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    model = still(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again, report = type(model).from_pretrained(folder, output_loading_info=True)
        by_auto = auto_class(name).from_pretrained(folder)
    # A tied weight that is stored once may be called missing: only one that is not there after loading is a loss.
    keys = [
        f"{what}: {', '.join(map(str, sorted(report[what], key=str)[:3]))}" for what in REPORTED if report.get(what)
    ]
    for text in compare(model, again, name):
        yield text, *keys
    if type(by_auto) is not type(model):
        yield f"the Auto class made a {type(by_auto).__name__}"
    for text in compare(model, by_auto, name):
        yield f"by the Auto class: {text}"


@probe(
    "model-loads-from-shards",
    "saving",
    "a checkpoint in many shards loads as one in a single file",
    library="transformers",
    cause="the index misses tensors, or shards are read into the wrong places",
    cases=lambda: ("llama", "llama-tied", "gpt2", "t5-untied", "mixtral", "bert-masked", "gpt-neox"),
)
def loads_from_shards(name: str, seed: int) -> Iterator[str]:
    model = still(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size="30KB")
        yield from compare(model, auto_class(name).from_pretrained(folder), name)


@probe(
    "model-loads-in-half",
    "saving",
    "loading in bfloat16 is loading and rounding, for every tensor",
    library="transformers",
    cause="some tensors keep another precision, or are drawn anew, when a dtype is asked for",
    cases=lambda: tuple(ARCHITECTURES),
)
def loads_in_half(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    import torch

    model = still(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder, **with_dtype(torch.bfloat16))
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    strict = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    wanted = dict(model.named_parameters())
    # The logarithms of Mamba's decay rates stay in float32 in some releases.
    kept = (*kept, "A_log")
    odd = []
    for key, parameter in again.named_parameters():
        exempt = any(part in key for part in (*kept, *strict))
        if key not in wanted or (parameter.dtype != torch.bfloat16 and not exempt):
            odd.append(f"{key} is {str(parameter.dtype).removeprefix('torch.')}")
        elif distance(parameter, wanted[key].to(parameter.dtype)) != 0:
            odd.append(f"{key} has other values")
    if odd:
        yield f"{len(odd)} tensors are not the checkpoint's in bfloat16", "; ".join(odd[:3])


def _stored(folder: str) -> dict[str, Any]:
    from pathlib import Path

    from safetensors.torch import load_file

    if not Path(folder, "model.safetensors").exists():
        raise NotApplicable("the installed release writes no safetensors by default")
    return load_file(Path(folder, "model.safetensors"))


@probe(
    "tied-checkpoint-with-either-name",
    "saving",
    "a tied checkpoint loads with only the head's weight in it, or only the embedding's",
    library="transformers",
    cause="of two tied names only one is looked for: the weight stays random or without values",
    cases=lambda: tuple(
        f"{n} {w}"
        for n in ("llama-tied", "gpt2", "qwen2-tied", "gemma", "t5", "bert-masked")
        for w in ("head", "embedding")
    ),
    links=[f"{ISSUES}38870", f"{ISSUES}41038"],
)
def either_name(case: str, seed: int) -> Iterator[str]:
    from safetensors.torch import save_file

    name, kept = case.split()
    model = still(name)
    if not is_tied(model):
        raise NotApplicable("not tied in the installed release")
    names = {key: tensor.data_ptr() for key, tensor in model.state_dict().items()}
    shared = model.get_output_embeddings().weight.data_ptr()
    aliases = [key for key, pointer in names.items() if pointer == shared]
    head = next((key for key in aliases if "head" in key or ("decoder" in key and "embed" not in key)), None)
    embedding = next((key for key in aliases if key != head), None)
    if head is None or embedding is None:
        raise NotApplicable("its state has one name for the tied weight")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        state = _stored(folder)
        value = model.get_output_embeddings().weight.detach().clone()
        state = {key: tensor for key, tensor in state.items() if key not in aliases}
        state[head if kept == "head" else embedding] = value
        save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
        for text in compare(model, auto_class(name).from_pretrained(folder), name):
            yield f"with only {head if kept == 'head' else embedding} in the file: {text}"


@probe(
    "missing-weights-are-reported",
    "saving",
    "a weight that is not in the checkpoint is named as missing, and gets values",
    library="transformers",
    cause="a weight that is not found is passed over in silence, and stays empty or random",
    cases=lambda: ("llama", "gpt2", "t5-untied", "bert-classifier", "mistral", "gpt-neox"),
)
def missing_is_reported(name: str, seed: int) -> Iterator[str]:
    from safetensors.torch import save_file

    model = still(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        state = _stored(folder)
        key = next(k for k in sorted(state) if k.endswith("weight") and state[k].dim() == 2 and ".1." in k)
        save_file(
            {k: v for k, v in state.items() if k != key}, f"{folder}/model.safetensors", metadata={"format": "pt"}
        )
        again, report = type(model).from_pretrained(folder, output_loading_info=True)
    empty = empty_tensors(again)
    if empty:
        yield f"{len(empty)} tensors have no values (meta): {', '.join(empty[:3])}"
    if not report["missing_keys"]:
        yield f"{key} is not in the file, and missing_keys is empty"
    bad = [k for k, p in again.named_parameters() if p.device.type != "meta" and not bool(p.isfinite().all())]
    if bad:
        yield f"{bad[0]} has values that are not finite"


@probe(
    "state-dict-round-trip",
    "saving",
    "state_dict and load_state_dict carry a whole model, tied weights included",
    library="transformers",
    cause="the state leaves out a tensor, or loading it unties what was tied",
    cases=lambda: tuple(ARCHITECTURES),
)
def state_round_trip(name: str, seed: int) -> Iterator[str]:
    from ..models import build

    model, other = still(name), build(name, seed=9).eval()
    other.load_state_dict(model.state_dict())
    yield from compare(model, other, name)
