"""Probes of a model with two adapters: neither knows of the other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ...evidence.names import trainable_names
from ..adapters import adapted, base_of, config_of, inputs_of, logits, tolerance, trained
from ..breaks import both_adapters_saved
from ..models import moved
from ..probe import Control, distance, from_peft, probe
from .adapter_files import load, stored

if TYPE_CHECKING:
    pass

PEFT = "https://github.com/huggingface/peft/"
# The name of one is the beginning of the other's, and both are in names of modules.
FIRST, SECOND = "foo", "foobar"
PAIRED = (
    "lora", "lora-saved-head", "lora-saved-two", "lora-embedding", "lora-patterns", "rslora", "lora-gpt2", "dora",
    "lora-bert-classifier", "ia3", "loha", "lora-many-names", "lora-tokens",
)  # fmt: skip


def _two(name: str, seed: int) -> Any:
    """A model with both adapters, each moved in its own way, the first active."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed + 1)
    config = config_of(name)
    model = moved(get_peft_model(base_of(name), config, adapter_name=FIRST).eval(), seed=2, only_trainable=True)
    model.add_adapter(SECOND, config_of(name))
    model.set_adapter(SECOND)
    _movetrainable_names(model, SECOND, seed=3)
    model.set_adapter(FIRST)
    return model.eval()


def _movetrainable_names(model: Any, adapter: str, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad and f".{adapter}" in key:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@probe(
    "second-adapter-changes-nothing",
    "parameters",
    "adding a second adapter leaves the first one's outputs and training alone",
    library="peft",
    cause="adding an adapter switches, freezes, unfreezes or overwrites parts of the one that was there",
    cases=lambda: PAIRED,
    links=[f"{PEFT}issues/899", f"{PEFT}issues/2206"],
)
def second_changes_nothing(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    import torch

    model = trained(name, seed)
    expected, trainable = logits(model, name), trainable_names(model)
    torch.manual_seed(5)
    model.add_adapter("other", config_of(name))
    away = distance(logits(model, name), expected)
    if not away <= tolerance(expected, 1e-6):
        yield f"logits of the first adapter differ by {away:.2e} after a second one was added"
    strays = trainable_names(model) ^ trainable
    if strays:
        yield (
            f"{len(strays)} tensors became trainable or frozen by adding a second adapter",
            ", ".join(sorted(strays)[:3]),
        )


@probe(
    "set-adapter-trains-only-that-one",
    "parameters",
    "of two adapters the active one trains, whole, and the other not at all",
    library="peft",
    cause="set_adapter() leaves the inactive adapter (or the original of a saved module) trainable",
    cases=lambda: PAIRED,
    links=[f"{PEFT}issues/899", f"{PEFT}pull/905"],
)
def only_the_active_trains(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    model = _two(name, seed)
    counts = {}
    for active, other in ((FIRST, SECOND), (SECOND, FIRST)):
        model.set_adapter(active)
        trainable = trainable_names(model)
        counts[active] = sum(p.numel() for key, p in model.named_parameters() if key in trainable)
        strays = sorted(key for key in trainable if f".{other}." in f"{key}." or "original_module" in key)
        if strays:
            yield (
                f"with {active!r} active, {len(strays)} tensors of {other!r} or of the base train",
                ", ".join(strays[:3]),
            )
    if counts[FIRST] != counts[SECOND]:
        yield f"{counts[FIRST]} parameters train in one adapter and {counts[SECOND]} in an equal one"


@probe(
    "adapters-keep-their-weights",
    "adapter",
    "each of two adapters computes what it does alone",
    library="peft",
    cause="adapters are taken for one another: the wrong one is active, saved or loaded",
    cases=lambda: PAIRED,
    links=[f"{PEFT}pull/3282"],
)
def each_as_alone(name: str, seed: int) -> Iterator[str]:
    model = _two(name, seed)
    expected = {}
    for adapter in (FIRST, SECOND):
        model.set_adapter(adapter)
        expected[adapter] = logits(model, name)
    if distance(expected[FIRST], expected[SECOND]) == 0:
        yield "both adapters compute the same: switching between them changes nothing"
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for adapter in (FIRST, SECOND):
            away = distance(logits(load(name, f"{folder}/{adapter}"), name), expected[adapter])
            if not away <= tolerance(expected[adapter]):
                yield f"adapter {adapter!r}, saved and loaded alone, gives logits that differ by {away:.2e}"
        both = load(name, f"{folder}/{FIRST}", adapter_name=FIRST)
        both.load_adapter(f"{folder}/{SECOND}", adapter_name=SECOND)
        for adapter in (FIRST, SECOND):
            both.set_adapter(adapter)
            away = distance(logits(both.eval(), name), expected[adapter])
            if not away <= tolerance(expected[adapter]):
                yield f"adapter {adapter!r}, loaded beside the other, gives logits that differ by {away:.2e}"


@probe(
    "adapter-file-holds-one-adapter",
    "saving",
    "the file of an adapter has the same keys beside another adapter as alone",
    library="peft",
    cause="names of adapters are matched by their beginnings: 'foo' takes the weights of 'foobar' with it",
    cases=lambda: PAIRED,
    control=Control("lora", both_adapters_saved),
    links=[f"{PEFT}pull/3282"],
)
def one_adapter_a_file(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        adapted(name, seed).save_pretrained(f"{folder}/alone")
        alone = set(stored(f"{folder}/alone"))
        _two(name, seed).save_pretrained(f"{folder}/both", selected_adapters=[FIRST])
        beside = set(stored(f"{folder}/both/{FIRST}"))
    if beside != alone:
        odd = sorted(beside ^ alone)
        yield f"the file of {FIRST!r} has {len(beside)} tensors beside {SECOND!r}, and {len(alone)} alone", odd[0]


@probe(
    "second-adapter-copies-its-own-modules-only",
    "parameters",
    "a second adapter adds its own matrices and its own saved modules, nothing of the first's",
    library="peft",
    cause="modules_to_save of one adapter are copied for the other too: parameters, memory and a wrong forward",
    cases=lambda: ("head-then-embedding", "embedding-then-head", "head-then-nothing"),
    links=[f"{PEFT}issues/2206", f"{PEFT}pull/2220"],
)
def copies_its_own(case: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    from peft import get_peft_model

    saved = {"head": ["lm_head"], "embedding": ["embed_tokens"], "nothing": None}
    first, second = (saved[part] for part in case.split("-then-"))
    base = base_of("lora")
    settings = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj"]}
    model = get_peft_model(base, from_peft("LoraConfig")(**settings, modules_to_save=first))
    before = sum(p.numel() for p in model.parameters())
    model.add_adapter("b", from_peft("LoraConfig")(**settings, modules_to_save=second))
    added = sum(p.numel() for p in model.parameters()) - before
    own = 2 * 4 * (32 + 32) + (64 * 32 if second else 0)
    if added != own:
        copies = [key for key, _ in model.named_parameters() if "modules_to_save.b" in key]
        yield f"the second adapter added {added} parameters; its own are {own}", ", ".join(copies)
    model.set_adapter("b")
    strays = [key for key in trainable_names(model) if ".b." not in f"{key}."]
    if strays:
        yield f"{len(strays)} tensors that are not the second adapter's train with it", ", ".join(strays[:3])


@probe(
    "deleted-adapter-is-gone",
    "adapter",
    "deleting an adapter removes its weights and leaves the other as it was",
    library="peft",
    cause="delete_adapter() keeps weights, or leaves the model without or with another active adapter",
    cases=lambda: PAIRED,
    needs="peft>=0.6",
)
def deleted_is_gone(name: str, seed: int) -> Iterator[str]:
    model = _two(name, seed)
    expected = logits(model, name)
    model.delete_adapter(SECOND)
    away = distance(logits(model, name), expected)
    if not away <= tolerance(expected, 1e-6):
        yield f"logits of {FIRST!r} differ by {away:.2e} after {SECOND!r} was deleted"
    left = [key for key, _ in model.named_parameters() if f".{SECOND}." in f"{key}."]
    if left:
        yield f"{len(left)} tensors of the deleted adapter are left: {', '.join(left[:2])}"


@probe(
    "rows-use-their-own-adapter",
    "adapter",
    "in a batch of mixed adapters each row is computed with its own",
    library="peft",
    cause="adapter_names of a batch are applied to the wrong rows or parts",
    cases=lambda: ("lora", "lora-saved-head", "lora-embedding", "lora-gpt2", "rslora"),
    needs="peft>=0.12",
)
def rows_use_their_own(name: str, seed: int) -> Iterator[str]:
    import torch

    model, inputs = _two(name, seed), inputs_of(name)
    expected = []
    for row, adapter in enumerate((FIRST, SECOND)):
        model.set_adapter(adapter)
        expected.append(logits(model, name)[row])
    with model.disable_adapter():
        expected.append(logits(model, name)[2])
    model.set_adapter(FIRST)
    with torch.no_grad():
        found = model.eval()(**inputs, adapter_names=[FIRST, SECOND, "__base__"]).logits
    for row, adapter in enumerate((FIRST, SECOND, "none")):
        if not distance(found[row], expected[row]) <= tolerance(expected[row]):
            away = distance(found[row], expected[row])
            yield f"the row for adapter {adapter!r} is {away:.2e} away from that adapter alone"


@probe(
    "merged-adapters-add-up",
    "adapter",
    "merging two adapters gives the outputs of both active at once",
    library="peft",
    cause="with several adapters, merging adds another one's change, or one of them twice",
    cases=lambda: ("lora", "lora-gpt2", "rslora", "lora-patterns", "loha", "ia3"),
    needs="peft>=0.6",
)
def merged_add_up(name: str, seed: int) -> Iterator[str]:
    model = _two(name, seed)
    if not hasattr(model.base_model, "set_adapter"):
        raise NotApplicable("the installed peft activates one adapter at a time")
    model.base_model.set_adapter([FIRST, SECOND])
    expected = logits(model, name)
    merged = model.merge_and_unload(adapter_names=[FIRST, SECOND])
    away = distance(logits(merged, name), expected)
    if not away <= tolerance(expected):
        yield f"logits differ by {away:.2e} after both adapters were merged"
