"""Checks of what a training begins with: the same weights each time, and those of the model that it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.names import base_parameters, first_few_of, in_base
from ..methods import LoRA
from .check import Finding, check
from .sabotages.start import BASE_REDRAWN, DRAWN_BEFORE_THE_SEED, LOADED_ANEW, MODEL_SHARED, NOT_SEEDED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence

# Initialisations of peft 0.21.2 that leave the base as it is; every other one moves a part of it into the adapter.
LEAVE_THE_BASE = ("gaussian", "orthogonal", "eva", "true", "false", "none")


@check(
    "same-seed-same-start",
    "parameters",
    "from the same seed the model is built and adapted with the same weights, whatever was drawn before, and anew each "
    "time",
    controls=[NOT_SEEDED, MODEL_SHARED, DRAWN_BEFORE_THE_SEED],
    catches=["https://github.com/huggingface/trl/pull/4887"],
    cost="model",
)
def same_seed_same_start(evidence: Evidence) -> Iterator[Finding]:
    one, other = (dict(_built(evidence).named_parameters()) for _ in range(2))
    shared = [name for name in one if name in other and one[name].data_ptr() == other[name].data_ptr()]
    if shared and one[shared[0]].numel():
        yield Finding(
            summary=f"{len(shared)} of {len(one)} tensors of two models made by Recipe.model() are the same memory",
            cause="model() returns one model, or weights that it keeps, at every call: a second training begins where "
            "the "
            "first one ended",
            remedy="build or load the model inside model(), and cache nothing",
        )
    drawn = _unequal(one, other)
    if drawn:
        yield Finding(
            summary=f"{len(drawn)} of {len(one)} tensors differ between two models built from the same seed",
            cause="weights are drawn from a generator that the seed does not reach (numpy's default_rng(), os.urandom, "
            "hash(), a generator of their own)",
            remedy="draw them from torch's global generator, or from one that is seeded with job.seed",
            evidence=(first_few_of(drawn),),
        )
    if not drawn and not shared:
        yield from _after_other_draws(evidence)


def _built(evidence: Evidence) -> nn.Module:
    return evidence.base_model() if evidence.trained_elsewhere else evidence.adapted_model()


def _after_other_draws(evidence: Evidence) -> Iterator[Finding]:
    """Whether a training that draws weights by itself draws the same ones when the generators have moved on."""
    standard, trace = evidence.standard, evidence.trace
    if not evidence.trained_elsewhere and not _unequal(trace.initial, standard.base_state):
        return
    disturbed = evidence.varied(disturbed=True).trace
    differing = _unequal(trace.initial, disturbed.initial)
    if differing:
        yield Finding(
            summary=f"{len(differing)} of {len(trace.initial)} tensors at the first update depend on what was drawn "
            "before "
            "train(job)",
            cause="a head or an adapter is initialised before the seed is set: the same seed gives another training",
            remedy="call set_seed(seed) before the model or the trainer is made",
            evidence=(first_few_of(differing),),
        )


def _unequal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors of the same shape that hold other numbers."""
    import torch

    both = [name for name in one if name in other and one[name].shape == other[name].shape]
    return [name for name in both if not torch.equal(*_comparable(one[name], other[name]))]


def _comparable(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the coarser of their dtypes, without NaN: a cast alone is no other weight."""
    import torch

    dtypes = {one.dtype, other.dtype}
    dtype = max(dtypes, key=lambda d: torch.finfo(d).eps) if one.is_floating_point() else one.dtype
    return one.detach().to(dtype).nan_to_num(), other.detach().to(one.device, dtype).nan_to_num()


@check(
    "adapting-leaves-the-base-alone",
    "parameters",
    "putting the method on the model changes no weight of the base, of a resized one no old row",
    controls=[BASE_REDRAWN],
    cost="model",
)
def adapting_leaves_the_base_alone(evidence: Evidence) -> Iterator[Finding]:
    refuse_moving_init(evidence)
    base, adapted = base_parameters(evidence), evidence.adapted_model()
    again = dict(evidence.base_model().named_parameters(remove_duplicate=False))
    if _unequal(base, again):
        raise NotApplicable("the base model is another one at every call (same-seed-same-start says so)")
    homes = {name: in_base(name, base) for name, _ in adapted.named_parameters()}
    found = {name: home for name, home in homes.items() if home is not None}
    parameters = dict(adapted.named_parameters())
    changed = [name for name, home in found.items() if _overwritten(base[home], parameters[name])]
    if changed:
        yield Finding(
            summary=f"{len(changed)} of {len(found)} base tensors are other ones after the model was adapted",
            cause="adapting re-initialised them (post_init, _init_weights, a resize that draws all rows), or loaded "
            "others",
            remedy="build the whole model first and adapt it last; write to new rows only",
            evidence=(first_few_of(changed),),
        )


def refuse_moving_init(evidence: Evidence) -> None:
    """NotApplicable for methods that begin by moving a part of the base into the adapter (PiSSA, OLoRA, LoftQ, ...)."""
    method = evidence.method
    config: Any = method.to_peft() if isinstance(method, LoRA) else getattr(method, "config", None)
    for name in ("init_lora_weights", "init_weights"):
        init = str(getattr(config, name, True)).lower()
        if init not in LEAVE_THE_BASE:
            raise NotApplicable(f"{name}={init!r} changes the base by design")


def _overwritten(before: Tensor, after: Tensor) -> bool:
    """Whether the part of a weight that both have differs; a resized one has more rows, or fewer."""
    import torch

    if before.dim() != after.dim() or before.shape[1:] != after.shape[1:]:
        return False  # another head
    rows = min(before.shape[0], after.shape[0]) if before.dim() else None
    return not torch.equal(*_comparable(before[:rows], after[:rows]) if rows else _comparable(before, after))


@check(
    "training-begins-with-the-given-weights",
    "parameters",
    "at the first update the model holds the weights that train(job) was given",
    controls=[LOADED_ANEW],
)
def training_begins_with_the_given_weights(evidence: Evidence) -> Iterator[Finding]:
    standard, trace = evidence.standard, evidence.trace
    refuse_moving_init(evidence)
    given = {id(p) for p in standard.given.parameters()} if standard.given is not None else set()
    kept = {name for name, p in trace.model.named_parameters() if id(p) in given}
    if not kept:
        raise NotApplicable("the training made its own model")
    before = standard.base_state
    homes = {name: name if name in before else in_base(name, before) for name in kept}
    now = {home: trace.initial[name] for name, home in homes.items() if home is not None and name in trace.initial}
    changed = _unequal(now, before)
    if changed:
        yield Finding(
            summary=f"{len(changed)} of {len(now)} tensors changed between the start of train(job) and its first "
            "update",
            cause="the training re-initialises or loads weights (post_init, model_init, a checkpoint that is resumed "
            "from)",
            remedy="train the model that job.model is; load a checkpoint only where job.resume_from names one",
            evidence=(first_few_of(changed),),
        )
