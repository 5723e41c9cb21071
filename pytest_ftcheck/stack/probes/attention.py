"""Probes of what a token may see: padding, positions, windows, packed rows; and that implementations agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ...tasks.instruction import PAD, VOCABULARY
from ..adapters import tolerance
from ..models import ARCHITECTURES, batch, logits_of_model, still
from ..probe import distance, probe

if TYPE_CHECKING:
    from torch import Tensor

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
ROTARY = ("llama", "gemma", "gemma2", "gemma3", "mistral", "mixtral", "qwen2", "qwen3", "gpt-neox", "phi", "phi3",
          "olmo2", "stablelm", "starcoder2", "cohere", "granite", "qwen3-moe", "falcon")  # fmt: skip


def _ids(length: int, rows: int = 1, seed: int = 5) -> Tensor:
    import torch

    return torch.randint(3, (rows, length), generator=torch.Generator().manual_seed(seed))


@probe(
    "padding-changes-no-logits",
    "labels",
    "rows have the same logits alone and in a padded batch",
    library="transformers",
    cause="padding is attended to, or moves the positions of real tokens",
    cases=lambda: tuple(ARCHITECTURES),
)
def padding_changes_nothing(name: str, seed: int) -> Iterator[str]:

    task = ARCHITECTURES[name].task
    if task == "spans":
        raise NotApplicable("its logits are over all positions, padding included")
    model, inputs = still(name), batch(name)
    keys = ("input_ids", "attention_mask", "labels" if task == "seq2seq" else "input_ids")
    together = logits_of_model(model, {key: inputs[key] for key in keys})
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = {key: inputs[key][row : row + 1, : None if key == "labels" else length] for key in keys}
        found, wanted = logits_of_model(model, alone)[0], together[row]
        wanted = wanted if task in ("classes", "seq2seq") else wanted[:length]
        if not distance(found, wanted) <= tolerance(wanted):
            yield f"a row of {length} tokens has logits {distance(found, wanted):.2e} away in a batch of longer rows"
            return


@probe(
    "left-padding-changes-no-logits",
    "labels",
    "with positions given, real tokens have the same logits padded left or right",
    library="transformers",
    cause="the mask of left-padded rows lets padding in, or hides real tokens",
    cases=lambda: tuple(n for n in ARCHITECTURES if ARCHITECTURES[n].task == "causal"),
    links=[f"{PULLS}37866"],
)
def left_padding(name: str, seed: int) -> Iterator[str]:
    import inspect

    import torch

    model = still(name)
    takes = inspect.signature(model.forward).parameters
    if name in ("mamba",):
        raise NotApplicable("recurrent")
    ids, pad = _ids(9), 3
    padded = torch.cat([torch.full((1, pad), PAD), ids], dim=1)
    mask = (torch.arange(9 + pad) >= pad).long()[None]
    inputs: dict[str, Tensor] = {"input_ids": padded, "attention_mask": mask}
    if "position_ids" in takes:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    elif name not in ("opt", "bloom"):
        raise NotApplicable("its forward takes no position_ids")
    wanted = logits_of_model(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0]
    found = logits_of_model(model, inputs)[0, pad:]
    if not distance(found, wanted) <= tolerance(wanted):
        yield f"logits of real tokens differ by {distance(found, wanted):.2e} when the row is padded on the left"


@probe(
    "attention-implementations-agree",
    "equivalence",
    "eager and sdpa attention give the same logits and gradients",
    library="transformers",
    cause="one implementation has another mask, scale, window or soft cap",
    cases=lambda: tuple(ARCHITECTURES),
    needs="transformers>=4.36",
)
def implementations_agree(name: str, seed: int) -> Iterator[str]:
    model = still(name, attn_implementation="eager")
    inputs = batch(name)
    eager, gradient = _logits_and_gradient(model, inputs)
    try:
        other = still(name, attn_implementation="sdpa")
    except ValueError as error:
        raise NotApplicable(f"no sdpa attention: {' '.join(str(error).split())[:100]}") from None
    found, other_gradient = _logits_and_gradient(other, inputs)
    real = inputs["attention_mask"].bool()
    if eager.shape[:2] == real.shape:
        eager, found = eager[real], found[real]
    # Soft capping is not in sdpa before 4.48, which says so: gemma2 differed by 1.3e-4 of its logits.
    limit = tolerance(eager, 1e-3 if name == "gemma2" else 1e-4)
    if not distance(found, eager) <= limit:
        yield f"logits differ by {distance(found, eager):.2e} between eager and sdpa attention"
    elif not abs(gradient - other_gradient) <= 1e-3 * gradient:
        yield f"the gradient's norm is {other_gradient:.5f} with sdpa and {gradient:.5f} with eager attention"


def _logits_and_gradient(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, float]:
    import torch

    output = model(**inputs)
    output.loss.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    logits = output.start_logits if hasattr(output, "start_logits") else output.logits
    return logits.detach().float(), float(torch.stack(norms).norm())


@probe(
    "rotary-positions-are-relative",
    "equivalence",
    "logits depend on distances between positions, not on where a row begins",
    library="transformers",
    cause="angles are computed in low precision, so that distant positions fall together",
    cases=lambda: tuple(f"{name} {kind}" for name in ROTARY for kind in ("float32", "autocast")),
    needs="transformers>=4.48",
    links=[f"{PULLS}29285"],
)
def relative_positions(case: str, seed: int) -> Iterator[str]:
    import contextlib
    import inspect

    import torch

    name, kind = case.split()
    model = still(name, max_position_embeddings=2048)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise NotApplicable("its forward takes no position_ids")
    ids, start = _ids(10), 1001
    lower = torch.autocast("cpu", torch.bfloat16) if kind == "autocast" else contextlib.nullcontext()
    with torch.no_grad(), lower:
        near = model(input_ids=ids, position_ids=torch.arange(10)[None]).logits.float()
        far = model(input_ids=ids, position_ids=torch.arange(start, start + 10)[None]).logits.float()
    # In float32 the angle of position 1001 is right to 6e-5, autocast rounds everything to 4e-3; angles in bfloat16 are
    # off by up to 4 radians.
    limit = tolerance(near, 2e-3 if kind == "float32" else 5e-2)
    if not distance(far, near) <= limit:
        yield f"logits differ by {distance(far, near):.2e} when the same row begins at position {start}"


@probe(
    "rotary-frequencies-stay-exact",
    "saving",
    "a model loaded in bfloat16 keeps its rotary frequencies in float32",
    library="transformers",
    cause="loading in low precision rounds the frequencies: positions beyond some hundred are wrong",
    cases=lambda: ("llama", "mistral", "qwen2", "gemma", "gpt-neox", "phi"),
    needs="transformers>=4.40",
)
def exact_frequencies(name: str, seed: int) -> Iterator[str]:
    import tempfile

    import torch

    from .checkpoints import with_dtype

    model = still(name)
    wanted = {key: b.clone() for key, b in model.named_buffers() if key.endswith("inv_freq")}
    if not wanted:
        raise NotApplicable("no buffer of frequencies")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder, **with_dtype(torch.bfloat16))
    for key, buffer in again.named_buffers():
        if key in wanted and not distance(buffer, wanted[key]) <= 1e-7:
            yield f"{key} is {buffer.dtype!s} and {distance(buffer, wanted[key]):.1e} off"
            return


@probe(
    "windows-are-as-wide-as-declared",
    "equivalence",
    "with sliding windows a token sees what its layers' windows let it, no more",
    library="transformers",
    cause="the sliding window is ignored, or is one token wider or narrower",
    cases=lambda: tuple(
        f"{n} {i}" for n in ("mistral", "gemma2", "gemma3", "gpt-oss", "qwen2") for i in ("eager", "sdpa")
    ),
    needs="transformers>=4.48",
)
def windows(case: str, seed: int) -> Iterator[str]:
    import torch

    name, implementation = case.split()
    changes: dict[str, Any] = {"sliding_window": 6, "num_hidden_layers": 1, "attn_implementation": implementation}
    if name == "qwen2":
        changes |= {"use_sliding_window": True, "max_window_layers": 0}
    elif name != "mistral":
        changes |= {"layer_types": ["sliding_attention"]}
    model = still(name, **changes)
    ids = _ids(14)
    other = ids.clone()
    other[0, 0] = 3 + (ids[0, 0] - 2) % (VOCABULARY - 3)
    with torch.no_grad():
        one, two = (model(input_ids=x).logits[0].float() for x in (ids, other))
    seen = int(((one - two).abs().amax(-1) > 1e-6).sum())
    if seen != 6:
        yield f"a token is seen by {seen} positions with a window of 6, in one layer"


@probe(
    "packed-rows-do-not-see-each-other",
    "labels",
    "rows packed into one, with positions that restart, have the logits they have alone",
    library="transformers",
    cause="the mask of a packed row ignores the restarting positions: documents attend to one another",
    cases=lambda: tuple(
        f"{n} {i}"
        for n in ("llama", "qwen2", "qwen3", "mistral", "gemma3", "mixtral", "phi3")
        for i in ("eager", "sdpa")
    ),
    needs="transformers>=4.53",
)
def packed(case: str, seed: int) -> Iterator[str]:
    import torch

    name, implementation = case.split()
    model = still(name, attn_implementation=implementation)
    one, other = _ids(5, seed=6), _ids(7, seed=7)
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    with torch.no_grad():
        together = model(input_ids=torch.cat([one, other], 1), position_ids=positions, use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=x, use_cache=False).logits[0] for x in (one, other)])
    if not distance(together, alone) <= tolerance(alone):
        yield f"logits of packed rows differ by {distance(together, alone):.2e} from those of the rows alone"
