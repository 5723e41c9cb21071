"""What is written to disk, and what comes back from there."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...errors import NotApplicable
from ..adapter import Adapter
from ..comparison import unequal
from ..layer_case import AdaptedLayer
from ..property import Deviation, lora_property
from ..strategies.cases import layer_cases

LORA = "https://arxiv.org/abs/2106.09685"
SAFETENSORS = "https://huggingface.co/docs/safetensors/index"
EVERY = partial(layer_cases, features=("dropout", "rslora", "gaussian", "dora", "lora_bias"))


@lora_property(
    "saved-is-restored",
    "what was saved and loaded again computes the same, bit for bit",
    formula="load(save(A, B)) = A, B, and y as before",
    source=LORA,
    cause="a rounding on the way, a factor under another name that stays as it starts, or another scaling",
    needs=("save", "load"),
    cases=EVERY,
)
def saved_is_restored(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    with tempfile.TemporaryDirectory() as folder:
        subject.adapter.save(subject.wrapped, Path(folder))
        base = subject.case.base.build(subject.case.dtype, subject.case.seed)
        loaded = subject.adapter.load(base, subject.case.config, Path(folder)).eval()
    (layer,) = subject.adapter.layers(loaded).values()
    a, b = subject.adapter.factors(layer)
    wrong = unequal("A", a, subject.a) or unequal("B", b, subject.b)
    wrong = wrong or unequal("y", subject.adapter.forward(loaded, x), subject(x))
    if wrong:
        yield Deviation(wrong)


@lora_property(
    "saving-changes-nothing",
    "to save an adapter changes neither its factors nor its output",
    formula="A, B and y as before",
    source=LORA,
    cause="what is saved is made ready in place: cast, scaled or merged",
    needs=("save",),
    cases=layer_cases,
)
def saving_changes_nothing(subject: AdaptedLayer) -> Iterator[Deviation]:
    x = subject.inputs()
    before = subject.a.detach().clone(), subject.b.detach().clone(), subject(x).detach().clone()
    with tempfile.TemporaryDirectory() as folder:
        subject.adapter.save(subject.wrapped, Path(folder))
    for name, observed, expected in zip(("A", "B", "y"), (subject.a, subject.b, subject(x)), before, strict=True):
        wrong = unequal(name, observed, expected)
        if wrong:
            yield Deviation(wrong)


@lora_property(
    "saved-bytes",
    "the file holds the factors, and nothing else",
    formula="bytes of the tensors = (numbers of A + numbers of B) · bytes of each",
    source=SAFETENSORS,
    cause="the base's weight, or its other layers, are saved with the adapter; or a factor is left out",
    needs=("save",),
    cases=layer_cases,
)
def saved_bytes(subject: AdaptedLayer) -> Iterator[Deviation]:
    with tempfile.TemporaryDirectory() as folder:
        subject.adapter.save(subject.wrapped, Path(folder))
        found = payload(subject.adapter, Path(folder))
    a, b = subject.case.base.shapes(subject.case.config.r)
    numbers = math.prod(a) * subject.a.element_size(), math.prod(b) * subject.b.element_size()
    if found != sum(numbers):
        yield Deviation(f"{found} bytes of tensors are saved, must be {numbers[0]} of A + {numbers[1]} of B")


def payload(adapter: Adapter, folder: Path) -> int:
    """Bytes of the tensors in the safetensors files of ``folder``: what follows their headers."""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise NotApplicable(f"{adapter.name} saves no safetensors")
    return sum(_bytes_of_tensors(file.read_bytes()) for file in files)


def _bytes_of_tensors(content: bytes) -> int:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    return sum(end - start for start, end in tensors)
