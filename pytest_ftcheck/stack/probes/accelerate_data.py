"""Probes of the rows that accelerate's loaders give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..accelerators import fresh, loader_of
from ..probe import probe

ISSUES = "https://github.com/huggingface/accelerate/issues/"
PULLS = "https://github.com/huggingface/accelerate/pull/"


@probe(
    "prepared-loader-gives-the-same-rows",
    "data",
    "a prepared loader gives every row, once, and as a fresh order every epoch",
    library="accelerate",
    cause="the last, short batch is dropped or filled up, or every epoch has the same order",
    cases=lambda: ("in-order", "shuffled", "dropping", "stream"),
)
def same_rows(case: str, seed: int) -> Iterator[str]:
    import torch

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[float]:
            return iter([float(i) for i in range(10)])

    settings: dict[str, Any] = {"shuffled": {"shuffle": True}, "dropping": {"drop_last": True}}.get(case, {})
    with fresh() as accelerator:
        plain = (
            torch.utils.data.DataLoader(Stream(), batch_size=4) if case == "stream" else loader_of(10, 4, **settings)
        )
        loader = accelerator.prepare(plain)
        epochs = [[float(x) for batch in loader for x in batch] for _ in range(3)]
    whole = [float(i) for i in range(8 if case == "dropping" else 10)]
    for epoch in epochs:
        if (sorted(epoch) if case == "shuffled" else epoch) != whole:
            yield f"an epoch of 10 rows in batches of 4 gives {epoch}"
            return
    if case == "shuffled" and (epochs[0] == epochs[1] == epochs[2] or epochs[0] == whole):
        yield "three epochs have the same order"


@probe(
    "skipped-batches-are-the-first",
    "resume",
    "skip_first_batches leaves exactly the rest of the epoch",
    library="accelerate",
    cause="the copy without the first batches has another order, or forgets which epoch it is in",
    cases=lambda: ("in-order", "shuffled", "seedable"),
    needs="accelerate>=0.17",
    links=[f"{PULLS}4071", f"{PULLS}3556"],
)
def skipped(case: str, seed: int) -> Iterator[str]:
    import torch
    from accelerate.data_loader import prepare_data_loader, skip_first_batches

    def made() -> Any:
        order = {"generator": torch.Generator().manual_seed(7)} if case == "shuffled" else {}
        loader = loader_of(8, 2, **({"shuffle": True} if case != "in-order" else {}), **order)
        seedable = {"use_seedable_sampler": True, "data_seed": 7} if case == "seedable" else {}
        return prepare_data_loader(loader, put_on_device=False, **seedable)

    def rows(loader: Any) -> list[float]:
        return [float(x) for batch in loader for x in batch]

    with fresh():
        torch.manual_seed(3)
        whole = [rows(loader) for loader in [made()] for _ in range(3)]
        torch.manual_seed(3)
        loader = made()
        if case == "seedable":
            loader.set_epoch(1)
        rest = rows(skip_first_batches(loader, 2))
    first = 1 if case == "seedable" else 0
    if rest != whole[first][4:]:
        yield f"without its first 2 batches the epoch {whole[first]} goes on with {rest}"


@probe(
    "gathered-metrics-are-all-rows",
    "data",
    "gather_for_metrics returns every row of an evaluation once",
    library="accelerate",
    cause="the remainder of the last batch is dropped or doubled",
    needs="accelerate>=0.15",
)
def gathered(case: str, seed: int) -> Iterator[str]:
    import torch

    with fresh() as accelerator:
        loader = accelerator.prepare(loader_of(10, 4))
        found = torch.cat([accelerator.gather_for_metrics(batch) for batch in loader]).tolist()
    if found != [float(i) for i in range(10)]:
        yield f"10 rows in batches of 4 come back as {found}"
