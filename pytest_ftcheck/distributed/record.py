"""What a rank of a traced training brings back: JSON for what is compared, safetensors for the first update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..codec import Record

if TYPE_CHECKING:
    from ..observers.update import Tensors

RECORD, TENSORS = "rank.json", "rank.safetensors"


@dataclass(frozen=True)
class RankUpdate(Record):
    """One update of one rank. ``rows`` are keys of the rows that it saw, in their order; ``tokens`` how many labels of
    them count (0 where the model is given none). ``gradients``, ``parameters`` and ``buffers`` are digests by name.
    """

    rows: tuple[str, ...]
    tokens: int
    loss: float
    gradients: dict[str, str]
    parameters: dict[str, str]
    buffers: dict[str, str]


@dataclass(frozen=True)
class RankRecord(Record):
    """``start`` are digests of the parameters before the first update; ``sharded`` the dimension in which a parameter
    is spread over the ranks. ``outside`` and ``moved`` are trainable parameters that are not in the wrapper, or were
    changed since; ``foreign`` is how many that are not the model's the optimizer holds. ``epochs`` are those that each
    shuffling sampler was iterated in; ``near`` how exact the precision of the training is.
    """

    updates: tuple[RankUpdate, ...]
    start: dict[str, str]
    sharded: dict[str, int]
    outside: tuple[str, ...]
    moved: tuple[str, ...]
    foreign: int
    epochs: tuple[tuple[int, ...], ...]
    near: float

    def replicated(self, digests: dict[str, str]) -> dict[str, str]:
        """Those of the tensors that every rank has whole."""
        return {name: value for name, value in digests.items() if name not in self.sharded}


@dataclass(frozen=True)
class Ranks:
    """The ranks of one training. ``tensors`` are put together from their parts: "gradient/NAME" is what the first
    update accumulated, "start/NAME" and "final/NAME" the trainable parameters before and after all updates.
    """

    records: tuple[RankRecord, ...]
    tensors: Tensors

    def named(self, kind: str) -> Tensors:
        return {name.removeprefix(kind): t for name, t in self.tensors.items() if name.startswith(kind)}


def write(folder: Path, record: RankRecord, tensors: Tensors) -> None:
    """Write what a rank saw into its folder."""
    from safetensors.torch import save_file

    (folder / RECORD).write_text(record.to_json(), encoding="utf-8")
    save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, str(folder / TENSORS))


def read(folders: Sequence[Path]) -> Ranks:
    """What the ranks of a training wrote. A tensor that is spread in more than one dimension is left out."""
    import torch
    from safetensors.torch import load_file

    records = tuple(RankRecord.from_json((folder / RECORD).read_text(encoding="utf-8")) for folder in folders)
    parts = [load_file(str(folder / TENSORS)) for folder in folders]
    tensors: Tensors = {}
    for name, first in parts[0].items():
        dim = records[0].sharded.get(name.partition("/")[2])
        if dim is None:
            tensors[name] = first
        elif dim >= 0:
            tensors[name] = torch.cat([part[name] for part in parts if name in part], dim)
    return Ranks(records, tensors)
