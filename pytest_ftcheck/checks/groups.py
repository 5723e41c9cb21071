"""Checks of the optimizer's parameter groups: which decay, and which have a learning rate of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.names import first_few_of
from .check import Finding, check
from .sabotages.groups import (
    DECAY_ON_EVERYTHING,
    DECAY_ON_NORMS,
    EMBEDDING_GROUP_EMPTY,
    LORA_RATES_SWAPPED,
    LORA_RATES_UNEQUAL,
)

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace
    from ..observers.update import Group

# A decay of everything alike is common and harmless at torch's own default of 0.01: over a horizon of hundreds of
# updates it takes a thousandth off the norms. From here on it was meant for matrices.
DECAY_OF_MATRICES = 0.05


@check(
    "no-decay-on-norms-and-biases",
    "optimizer",
    "weight decay that is meant for matrices leaves norms and biases alone",
    controls=[DECAY_ON_NORMS, DECAY_ON_EVERYTHING],
    catches=[
        "https://github.com/huggingface/transformers/pull/35927",
        "https://github.com/Lightning-AI/lit-llama/issues/254",
    ],
)
def no_decay_on_norms_and_biases(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    vectors = _norms_and_biases(trace)
    if not vectors:
        raise NotApplicable("no norm and no bias trains")
    decayed = {n: _decay(g) for g in trace.updates[-1].groups for n in g.names if n in vectors and _decay(g) > 0}
    separates = any(group.names and not _decay(group) > 0 for group in trace.updates[-1].groups)
    largest = max(decayed.values(), default=0.0)
    if decayed and (separates or largest >= DECAY_OF_MATRICES or _is_promised(evidence)):
        yield Finding(
            summary=f"{len(decayed)} of {len(vectors)} norms and biases are pulled towards 0 by a decay of {largest:g}",
            cause="the groups are told apart by names or types that miss this model's norms (the Trainer before "
            "transformers 4.52 missed most families')"
            if separates or evidence.standard.job.trainer is not None
            else "all parameters are in one group, with a weight decay that is meant for matrices",
            remedy="two groups: weight_decay for parameters of two dimensions and more, 0 for the others",
            evidence=(first_few_of(list(decayed)),),
        )


def _decay(group: Group) -> float:
    return float(group.settings.get("weight_decay") or 0.0)


def _norms_and_biases(trace: Trace) -> set[str]:
    """Trainable vectors that are a bias, or the weight of a module that normalises by its class."""
    modules = dict(trace.model.named_modules())
    found = set()
    for name, trains in trace.trainable.items():
        owner, _, own = name.rpartition(".")
        is_norm = "norm" in type(modules.get(owner)).__name__.lower()
        if trains and trace.initial[name].dim() <= 1 and (own == "bias" or (own == "weight" and is_norm)):
            found.add(name)
    return found


def _is_promised(evidence: Evidence) -> bool:
    """Whether the recipe declares a decay of matrices, or a Hugging Face trainer was told one: it promises to leave
    norms and biases out.
    """
    record = evidence.standard.job.trainer
    of_trainer = getattr(getattr(record, "arguments", None), "weight_decay", None)
    return float(evidence.recipe.weight_decay or of_trainer or 0.0) > 0


# Rates that fall from layer to layer make B's a little smaller; LoRA+ makes it 2 to 32 times as large.
SWAPPED = 0.5


@check(
    "lora-rates-agree",
    "optimizer",
    "the rates of B and A have one ratio in all LoRA layers, which favours B, and no group of its own is left empty",
    controls=[LORA_RATES_UNEQUAL, LORA_RATES_SWAPPED, EMBEDDING_GROUP_EMPTY],
    catches=["https://github.com/huggingface/peft/pull/3503"],
    applies="adapter",
)
def lora_rates_agree(evidence: Evidence) -> Iterator[Finding]:
    groups = evidence.trace.updates[-1].groups
    rates = {name: _rate(group) for group in groups for name in group.names if name is not None}
    if not any("lora_" in name for name in rates):
        raise NotApplicable("no LoRA parameter is in the optimizer")
    yield from _ratios(rates)
    yield from _empty_group(groups, rates)


def _rate(group: Group) -> float:
    """The base rate: schedules scale it, and keep it beside."""
    return float(group.settings.get("initial_lr", group.settings.get("lr", 0.0)))


def _ratios(rates: dict[str, float]) -> Iterator[Finding]:
    pairs = {name: name.replace(".lora_A.", ".lora_B.") for name in rates if ".lora_A." in name}
    ratios = {a: rates[b] / rates[a] for a, b in pairs.items() if b in rates and rates[a] > 0}
    if not ratios:
        return
    low, high = min(ratios.values()), max(ratios.values())
    if high > low * (1 + 1e-6):
        odd = [name for name, ratio in ratios.items() if ratio < high * (1 - 1e-6)]
        yield Finding(
            summary=f"the rate of B is {high:g} times that of A in {len(ratios) - len(odd)} LoRA layers, and {low:g} "
            f"times in {len(odd)}",
            cause="the names that sort parameters into groups miss some of the layers",
            remedy='sort by "lora_B" in the name, and look at the groups',
            evidence=(first_few_of(odd),),
        )
    elif low <= SWAPPED:
        yield Finding(
            summary=f"A of every LoRA layer has a rate {1 / low:g} times that of B",
            cause="the two rates are swapped: LoRA+ makes B, which begins at 0, the faster one",
            remedy="give the larger rate to lora_B",
        )


def _empty_group(groups: list[Group], rates: dict[str, float]) -> Iterator[Finding]:
    """A group for the embedding's adapter that it is not in: its rate is no other group's."""
    embeddings = [name for name in rates if ".lora_embedding_" in name]
    used = set(rates.values())
    empty = [_rate(group) for group in groups if not group.names and _rate(group) not in used]
    if embeddings and empty:
        yield Finding(
            summary=f"a parameter group with a rate of its own ({empty[0]:g}) is empty; {len(embeddings)} tensors of "
            f"an embedding's adapter train at {rates[embeddings[0]]:g}",
            cause="create_loraplus_optimizer of peft before 0.21 never recognises embeddings",
            remedy="upgrade peft, or put lora_embedding_A and lora_embedding_B into that group yourself",
            evidence=(first_few_of(embeddings),),
        )
