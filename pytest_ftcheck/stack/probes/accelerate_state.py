"""Probes of what accelerate saves, restores, wraps and offloads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

from ...errors import NotApplicable
from ..accelerators import fresh, linear_model
from ..breaks import first_by_name_removed
from ..probe import Control, distance, probe
from ..releases import at_least

ISSUES = "https://github.com/huggingface/accelerate/issues/"
PULLS = "https://github.com/huggingface/accelerate/pull/"


@probe(
    "newest-states-are-kept",
    "saving",
    "with total_limit the newest states stay, also after the tenth",
    library="accelerate",
    cause="folders are sorted as text, or as the disk lists them: checkpoint_10 comes before checkpoint_9",
    control=Control("", first_by_name_removed),
    links=[f"{PULLS}1165"],
)
def newest_are_kept(case: str, seed: int) -> Iterator[str]:
    from accelerate.utils import ProjectConfiguration

    with tempfile.TemporaryDirectory() as folder:
        naming = ProjectConfiguration(project_dir=folder, automatic_checkpoint_naming=True, total_limit=2)
        with fresh(project_config=naming) as accelerator:
            accelerator.prepare(linear_model()[0])
            for _ in range(13):
                accelerator.save_state()
        left = sorted(os.listdir(f"{folder}/checkpoints"))
    if left != ["checkpoint_11", "checkpoint_12"]:
        yield f"of 13 states, limited to 2, these are left: {', '.join(left)}"


@probe(
    "state-comes-back",
    "resume",
    "load_state brings back model, optimizer, schedule, generators and registered objects",
    library="accelerate",
    cause="a part of the state is not written, or is restored into another object",
)
def state_comes_back(case: str, seed: int) -> Iterator[str]:
    import torch

    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def state_dict(self) -> dict[str, int]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.value = state["value"]

    with tempfile.TemporaryDirectory() as folder, fresh() as accelerator:
        model = torch.nn.Linear(3, 3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
        counter = Counter()
        accelerator.register_for_checkpointing(counter)

        def advance() -> None:
            accelerator.backward(model(torch.randn(4, 3)).pow(2).sum())
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            counter.value += 1

        def picture() -> dict[str, Any]:
            return {
                "weights": model.weight.detach().clone(), "rate": schedule.get_last_lr()[0], "counter": counter.value,
                "moments": optimizer.state_dict()["state"][0]["exp_avg"].clone(),
            }  # fmt: skip

        advance()
        accelerator.save_state(folder)
        before = picture()
        advance()
        after = picture()
        for _ in range(2):
            accelerator.load_state(folder)
            yield from _differs(picture(), before, "right after load_state()")
            advance()
            if at_least("accelerate", "1.0"):
                # Older ones cannot read the states of their generators back: torch 2.6 refuses the pickles.
                yield from _differs(picture(), after, "one update after load_state()")


def _differs(found: dict[str, Any], wanted: dict[str, Any], when: str) -> Iterator[str]:
    import torch

    for what, value in wanted.items():
        same = distance(found[what], value) == 0 if isinstance(value, torch.Tensor) else found[what] == value
        if not same:
            yield f"{what} differs {when}"


@probe(
    "unwrapped-model-is-the-model",
    "saving",
    "unwrap_model gives back the module, and save_model writes all of it, tied weights too",
    library="accelerate",
    cause="wrappers for mixed precision stay on, or shared tensors are dropped from the file",
    cases=lambda: ("llama", "llama-tied", "llama bf16"),
    needs="accelerate>=0.21",
)
def unwrapped(case: str, seed: int) -> Iterator[str]:
    import torch
    from accelerate import load_checkpoint_in_model

    from ..models import build, moved

    name, _, precision = case.partition(" ")
    model = moved(build(name)).eval()
    ids = torch.arange(3, 13)[None]
    wanted = model(ids).logits
    with (
        fresh(**({"mixed_precision": precision} if precision else {})) as accelerator,
        tempfile.TemporaryDirectory() as folder,
    ):
        prepared = accelerator.prepare(model)
        if precision and prepared(ids).logits.dtype != torch.float32:
            yield f"outputs under mixed precision are {prepared(ids).logits.dtype}, not float32"
        accelerator.save_model(prepared, folder)
        bare = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
        other = build(name, seed=8).eval()
        load_checkpoint_in_model(other, folder)
    if not distance(bare(ids).logits, wanted) <= 1e-6:
        yield "the unwrapped model computes something else than before it was prepared"
    if not distance(other(ids).logits, wanted) <= 1e-6:
        yield f"logits differ by {distance(other(ids).logits, wanted):.2e} after save_model and loading"


@probe(
    "offloaded-model-computes-the-same",
    "equivalence",
    "weights offloaded to memory or disk give the same logits, tied ones too",
    library="accelerate",
    cause="hooks put weights into the wrong places, or forget that two modules share one",
    cases=lambda: ("llama disk", "llama-tied disk", "gpt2 disk", "t5 disk", "llama cpu"),
    needs="accelerate>=0.20",
)
def offloaded(case: str, seed: int) -> Iterator[str]:
    import torch
    from accelerate import cpu_offload, disk_offload

    from ..models import batch, build, logits_of_model, moved

    name, where = case.split()
    model = moved(build(name)).eval()
    wanted = logits_of_model(model, batch(name))
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        model = disk_offload(model, folder, device) if where == "disk" else cpu_offload(model, device)
        if model is None:
            raise NotApplicable("the installed release offloads in place")
        found = logits_of_model(model, batch(name))
    if not distance(found, wanted) <= 1e-5:
        yield f"logits differ by {distance(found, wanted):.2e} after offloading"
