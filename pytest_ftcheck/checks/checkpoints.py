"""Checks of the checkpoints that a training itself writes: which of them stay, and whether they hold the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.evidence import Evidence, copy_of
from ..evidence.resumption import often_saved
from .check import Finding, check
from .sabotages.resume import CHECKPOINT_HOLDS_OTHER_WEIGHTS, NEWEST_DELETED

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

# Of the saved model's logits, relative to their norm; in half precision the checkpoint is no more exact than its dtype.
SAME_LOGITS, SAME_LOGITS_HALF = 1e-5, 0.02


@check(
    "newest-checkpoints-are-kept",
    "resume",
    "where old checkpoints are deleted, the newest ones stay",
    controls=[NEWEST_DELETED],
    catches=["https://github.com/huggingface/accelerate/pull/1165"],
    cost="training",
)
def newest_checkpoints_are_kept(evidence: Evidence) -> Iterator[Finding]:
    training = often_saved(evidence)
    assert training.states is not None
    written, kept = sorted(training.states.checkpoints), sorted(training.states.kept())
    updates = len(training.trace.updates)
    # One that is deleted as soon as it is written is not seen at all: then the row of those that are ends too early.
    if written == list(range(1, written[-1] + 1)) and written[-1] < updates - 1:
        written = list(range(1, updates + 1))
    if len(kept) == len(written):
        raise NotApplicable("the loop deletes no checkpoint")
    newest = written[len(written) - len(kept) :]
    # A trainer that evaluates may keep its best checkpoint besides: one that is older.
    older = 1 if training.trace.evaluations else 0
    if kept and kept[-1] == newest[-1] and len(set(newest) - set(kept)) <= older:
        return
    yield Finding(
        summary=f"checkpoints of updates {', '.join(map(str, kept)) or 'none'} are left of {written[0]} to "
        f"{written[-1]}; "
        f"the newest are {', '.join(map(str, newest)) or written[-1]}",
        cause="the checkpoints to delete are chosen by the order of their names, where checkpoint-10 comes before "
        "checkpoint-9, or by times that a copy changes",
        remedy="sort by the number in the name, and delete only after the new checkpoint is complete",
    )


@check(
    "checkpoint-holds-the-model",
    "resume",
    "the model in a checkpoint, loaded by its library, computes what the training's model computed at that update",
    controls=[CHECKPOINT_HOLDS_OTHER_WEIGHTS],
    cost="training",
)
def checkpoint_holds_the_model(evidence: Evidence) -> Iterator[Finding]:
    training = often_saved(evidence)
    assert training.states is not None
    for update, path in sorted(training.states.kept().items(), reverse=True):
        for folder, kind in loadable(path):
            yield from _other_logits(evidence, training.trace.updates[update - 1].after, folder, kind, update)
            return
    raise NotApplicable("no checkpoint holds a model that transformers or peft loads")


def _other_logits(evidence: Evidence, was: dict[str, Any], folder: Path, kind: str, update: int) -> Iterator[Finding]:
    import torch

    model = copy_of(evidence.trace.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(was[name])
    expected, found = evidence.logits(model), evidence.logits(_loaded(evidence, model, folder, kind))
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    distance = float((expected - found).norm() / expected.norm()) if expected.shape == found.shape else float("inf")
    if not distance <= (SAME_LOGITS_HALF if half else SAME_LOGITS):
        yield Finding(
            summary=f"logits {distance:.2%} off those of the model that was saved, in the {kind} of the checkpoint "
            f"after update {update}",
            cause="trained tensors are missing in the checkpoint or are stored under other names (modules_to_save, "
            "tied or resized embeddings), or it was written before the update",
            remedy="compare the checkpoint's tensors with model.state_dict(), and save after optimizer.step()",
        )


def _loaded(evidence: Evidence, model: nn.Module, folder: Path, kind: str) -> nn.Module:
    """The model in ``folder``, by the class of ``model``, or on a new base model."""
    try:
        if kind == "adapter":
            from peft import PeftModel

            loaded: nn.Module = PeftModel.from_pretrained(evidence.base_model(), str(folder))
        else:
            loaded = type(model).from_pretrained(str(folder))  # type: ignore[attr-defined]
    except Exception as error:
        raise NotApplicable(f"the checkpoint does not load by itself: {type(error).__name__}") from None
    return loaded.to(next(model.parameters()).dtype).to(evidence.device)


def loadable(path: Path) -> Iterator[tuple[Path, str]]:
    """(folder, kind) of the models in a checkpoint that their libraries load: kind is "adapter" or "model"."""
    folders = [path, *sorted(p for p in path.rglob("*") if p.is_dir())] if path.is_dir() else []
    for folder in folders:
        if (folder / "adapter_config.json").exists():
            yield folder, "adapter"
        elif (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
            yield folder, "model"
