"""Networks: the right layers are adapted, each in its own way, and together they compute what they should."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ...theory.parameters import parameter_form
from ..comparison import unequal
from ..networks.case import AdaptedNetwork
from ..property import NETWORKS, Deviation, lora_property
from ..strategies.networks import network_cases
from ..trained import parameter_of
from .saving import payload
from .scaling import RELATIVE

LORA = "https://arxiv.org/abs/2106.09685"
PATTERNS = "https://huggingface.co/docs/peft/main/en/package_reference/lora"
SAVED = "https://huggingface.co/docs/peft/main/en/developer_guides/troubleshooting"


@lora_property(
    "network-output",
    "an adapted network computes what the base does with W + s·B A in place of each declared W",
    formula="f(x; W + s·B A), each layer with its own rank and scaling; a weight that another layer shares stays there",
    source=LORA,
    cause="a layer is not adapted, or has another one's scaling, or a shared weight is adapted in both places",
    kinds=NETWORKS,
    cases=network_cases,
)
def network_output(subject: AdaptedNetwork) -> Iterator[Deviation]:
    missing = [name for name in subject.declared if name not in subject.layers]
    if missing:
        yield Deviation(f"{len(missing)} declared layers have no adapter: {', '.join(missing[:3])}")
        return
    wrong = subject.fill().wrong_output()
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "network-starts-as-the-base",
    "before it is trained, an adapted network computes what the base computes, bit for bit",
    formula="f(x; W + s·B A) = f(x; W) at the start",
    source=LORA,
    cause="both factors are drawn at random, or something besides the adapters was changed",
    kinds=NETWORKS,
    cases=partial(network_cases, features=("rslora", "gaussian", "modules_to_save", "layers")),
)
def network_starts_as_the_base(subject: AdaptedNetwork) -> Iterator[Deviation]:
    # PEFT runs attention with weights of its own, in another order of operations.
    wrong = subject.wrong_output() if subject.case.network.kind == "attention" else _not_the_base(subject)
    if wrong:
        yield Deviation(wrong)


def _not_the_base(subject: AdaptedNetwork) -> str | None:
    return unequal("logits", subject(), subject.of_base())


@lora_property(
    "adapts-what-is-declared",
    "the declared layers are adapted, and no others",
    formula="names of adapted layers = names that target_modules and layers_to_transform mean",
    source=PATTERNS,
    cause="names are matched by another rule: a part of a name, or the ending without the dot",
    kinds=NETWORKS,
    cases=network_cases,
)
def adapts_what_is_declared(subject: AdaptedNetwork) -> Iterator[Deviation]:
    found, declared = set(subject.layers), set(subject.declared)
    for names, told in (
        (declared - found, "declared layers are not adapted"),
        (found - declared, "others are adapted"),
    ):
        if names:
            yield Deviation(f"{len(names)} {told}: {', '.join(sorted(names)[:3])}; {len(declared)} are declared")


@lora_property(
    "patterns-are-obeyed",
    "each layer has the rank that the patterns give it",
    formula="A: (r, inputs) with r = rank_pattern[name], or the common rank",
    source=PATTERNS,
    cause="the patterns are not looked at, or are looked up by the whole name",
    kinds=NETWORKS,
    features=("patterns",),
    cases=network_cases,
)
def patterns_are_obeyed(subject: AdaptedNetwork) -> Iterator[Deviation]:
    for name, layer in subject.as_declared():
        rank, (a, _) = subject.rank(name), subject.adapter.factors(layer)
        if a.shape[0] != rank:
            yield Deviation(f"{name} has rank {a.shape[0]}, must have {rank}")


@lora_property(
    "pattern-scalings",
    "each layer has the scaling that the patterns give it",
    formula="s = alpha_pattern[name] / rank_pattern[name], or the root of the rank with rsLoRA",
    source=PATTERNS,
    cause="the scaling is worked out with the common rank or alpha",
    needs=("scaling",),
    kinds=NETWORKS,
    features=("patterns",),
    cases=network_cases,
)
def pattern_scalings(subject: AdaptedNetwork) -> Iterator[Deviation]:
    for name, layer in subject.as_declared():
        stated, must = subject.adapter.scaling(layer), subject.scaling(name)
        if not abs(stated - must) <= RELATIVE * must:
            yield Deviation(f"s of {name} is {stated:.9g}, must be {must:.9g}")


@lora_property(
    "network-trains-the-closed-form",
    "as many parameters of a network are trained as the declaration means, and the base is there once",
    formula="Σ r·(inputs + outputs), the biases that train, and the copies of modules_to_save",
    source=LORA,
    cause="a layer too many or too few, a base that trains, or a shared weight that is no longer shared",
    kinds=NETWORKS,
    cases=partial(network_cases, features=("patterns", "layers", "bias", "modules_to_save", "dora")),
)
def network_trains_the_closed_form(subject: AdaptedNetwork) -> Iterator[Deviation]:
    form = parameter_form(subject.plan, subject.case.config)
    assert form is not None
    parameters = list(subject.wrapped.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    if trained != form.trainable:
        yield Deviation(f"{trained} parameters are trained, must be {form.trainable}")
    if total != form.total:
        yield Deviation(f"there are {total} parameters, must be {form.total}", "a shared weight is there twice")


@lora_property(
    "network-merges",
    "a merged network computes what it did before",
    formula="f(x; W') with W' = W + s·B A",
    source=LORA,
    cause="a layer is not merged, or still computes its update apart",
    needs=("merge",),
    kinds=NETWORKS,
    cases=partial(network_cases, embeddings=False),
)
def network_merges(subject: AdaptedNetwork) -> Iterator[Deviation]:
    subject.fill()
    subject.adapter.merge(subject.wrapped)
    wrong = subject.wrong_output()
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "network-disabled-is-the-base",
    "with its adapters disabled a network is the base, bit for bit: copies of modules_to_save are disabled too",
    formula="f(x; W) while disabled",
    source=SAVED,
    cause="a layer stays adapted, or what modules_to_save trains is the original and no copy",
    needs=("disabled",),
    kinds=("model",),
    cases=partial(network_cases, features=("patterns", "modules_to_save")),
)
def network_disabled_is_the_base(subject: AdaptedNetwork) -> Iterator[Deviation]:
    subject.fill()
    with torch.no_grad():
        for parameter in _beyond_the_factors(subject):
            parameter.add_(1.0)
    with subject.adapter.disabled(subject.wrapped):
        wrong = _not_the_base(subject)
    if wrong:
        yield Deviation(wrong)


def _beyond_the_factors(subject: AdaptedNetwork) -> list[nn.Parameter]:
    """What is trained besides A and B."""
    shown = (factor for layer in subject.layers.values() for factor in subject.adapter.factors(layer))
    factors = {id(parameter_of(subject.wrapped, factor)) for factor in shown}
    return [one for one in subject.wrapped.parameters() if one.requires_grad and id(one) not in factors]


@lora_property(
    "saved-modules-are-trained",
    "what modules_to_save names is trained, and in the output",
    formula="f depends on the copies that train",
    source=SAVED,
    cause="the copy is made, and the original is still the one that computes",
    kinds=("model",),
    features=("modules_to_save",),
    cases=partial(network_cases, features=("modules_to_save",), dtypes=(torch.float32,)),
)
def saved_modules_are_trained(subject: AdaptedNetwork) -> Iterator[Deviation]:
    named, trained = subject.case.config.modules_to_save, _beyond_the_factors(subject)
    if not named:
        return
    if not trained:
        yield Deviation(f"0 parameters of {', '.join(named)} are trained, must be all of them")
        return
    before = subject()
    with torch.no_grad():
        for parameter in trained:
            parameter.mul_(1.5)
    if torch.equal(subject(), before):
        yield Deviation(f"0 logits have changed with {len(trained)} parameters of {', '.join(named)}, must be some")


@lora_property(
    "network-is-restored",
    "a network that was saved and loaded again computes the same, bit for bit",
    formula="f after load(save(...)) as before",
    source=LORA,
    cause="a layer's factors, or a copy of modules_to_save, are not saved or not found again",
    needs=("save", "load"),
    kinds=("model",),
    cases=partial(network_cases, features=("rslora", "patterns", "modules_to_save", "layers")),
)
def network_is_restored(subject: AdaptedNetwork) -> Iterator[Deviation]:
    subject.fill()
    with torch.no_grad():
        for parameter in _beyond_the_factors(subject):
            parameter.add_(0.5)
    case = subject.case
    with tempfile.TemporaryDirectory() as folder:
        subject.adapter.save(subject.wrapped, Path(folder))
        base = case.network.build(case.dtype, case.seed)
        loaded = subject.adapter.load(base, case.config, Path(folder)).eval()
    wrong = unequal("logits", subject.of(loaded), subject())
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "network-saves-the-closed-form",
    "the file of a network's adapters has the bytes that the declaration means",
    formula="Σ numbers of A and B · bytes of each, for every declared layer",
    source="https://huggingface.co/docs/safetensors/index",
    cause="the base, or adapters of layers that are not declared, are saved too",
    needs=("save",),
    kinds=("model",),
    cases=partial(network_cases, features=("patterns", "layers"), embeddings=False),
)
def network_saves_the_closed_form(subject: AdaptedNetwork) -> Iterator[Deviation]:
    form = parameter_form(subject.plan, subject.case.config)
    assert form is not None
    a, _ = subject.adapter.factors(next(iter(subject.layers.values())))
    with tempfile.TemporaryDirectory() as folder:
        subject.adapter.save(subject.wrapped, Path(folder))
        saved = payload(subject.adapter, Path(folder))
    if saved != form.trainable * a.element_size():
        yield Deviation(f"{saved} bytes of tensors are saved, must be {form.trainable * a.element_size()}")
