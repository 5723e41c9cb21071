"""The check that what several processes save is a checkpoint of the whole model, for one process to load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable, TrainingError
from ..evidence.checkpoint import Folder, Saved, SavingFails, failing, load_saved
from ..evidence.ranks import checkpoint
from .check import Finding, check
from .sabotages.distributed import FIRST_SHARD_ONLY

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence

# Logits of the same weights in one process and in several: at most 1e-6 of the largest one in float32 (measured), and
# some roundings of bfloat16 (2^-8 each).
FLOAT32, HALF = 1e-4, 0.05


@check(
    "distributed-checkpoint-loads-in-one-process",
    "distributed",
    "what several processes save is the whole model: one process loads it, and computes the same logits",
    controls=[FIRST_SHARD_ONLY],
    catches=["https://github.com/huggingface/peft/issues/1442"],
    needs=["processes"],
    cost="training",
)
def distributed_checkpoint_loads_in_one_process(evidence: Evidence) -> Iterator[Finding]:
    try:
        made = checkpoint(evidence)
    except TrainingError as error:
        if ": saving raised " not in str(error):
            raise
        yield _does_not("saved", str(error))
        return
    inputs = {n.removeprefix("inputs/"): t for n, t in made.tensors.items() if n.startswith("inputs/")}
    try:
        model = _loaded(evidence, made.folder)
    except SavingFails as error:
        yield _does_not("loaded by one process", str(error))
        return
    yield from _other_logits(model, inputs, made.tensors["logits"], evidence)


def _loaded(evidence: Evidence, folder: Folder) -> nn.Module:
    before = evidence.adapted_model()
    with failing("loading"):
        return load_saved(evidence, Saved(folder, before, before, evidence.recipe.save is not None))


def _other_logits(model: nn.Module, inputs: dict[str, Any], expected: Any, evidence: Evidence) -> Iterator[Finding]:
    import torch

    from ..isolation import evaluation_mode
    from ..observers.loss import logits_of

    with torch.no_grad(), evaluation_mode(model):
        logits = logits_of(model(**{name: t.to(evidence.device) for name, t in inputs.items()}))
    if logits is None:
        raise NotApplicable("the loaded model's output shows no logits")
    near = HALF if any(p.dtype in (torch.bfloat16, torch.float16) for p in model.parameters()) else FLOAT32
    apart = float((logits.float().cpu() - expected).abs().max() / expected.abs().max())
    if not apart <= near:
        yield Finding(
            summary=f"the logits of the checkpoint differ by {apart:.3g} of the largest one (at most {near:g}) from"
            f" those of the {evidence.recipe.processes} processes that saved it",
            cause="a part of the model is missing from the files: rank 0's shard alone, or what only it had trained",
            remedy="gather the whole state on all ranks first (get_model_state_dict with full_state_dict=True), and let"
            " rank 0 write it",
        )


def _does_not(what: str, why: str) -> Finding:
    return Finding(
        summary=f"the checkpoint of several processes cannot be {what}: {why.splitlines()[0]}",
        cause="it holds one rank's shard of the parameters, or tensors that are still spread over the ranks",
        remedy="gather the whole state on all ranks first (get_model_state_dict with full_state_dict=True), and let"
        " rank 0 write it",
    )
