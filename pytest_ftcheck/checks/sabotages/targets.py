"""Breaking what is supervised where nearly every loss passes by: the targets of ``cross_entropy`` while training runs.

That holds for a plain loop, a model's own loss, a Trainer, and whatever else made the labels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .wrapping import around_training, patched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...recipe import Recipe

IGNORED = -100


@dataclass(frozen=True)
class Targets:
    """The targets of one call, as [rows, length], with the token that follows each position and whether it is real."""

    labels: Tensor
    following: Tensor
    is_real: Tensor


Change = Callable[[Targets], "Tensor"]


def targets_sabotage(id: str, breaks: str, change: Change) -> Sabotage:
    """A sabotage that trains on the targets that ``change`` returns, of their shape."""
    return Sabotage(id, breaks, lambda recipe: with_targets(recipe, change))


def with_targets(recipe: Recipe, change: Change) -> Recipe:
    """``recipe`` trained on changed targets. NotApplicable where a batch shows that this changes nothing."""
    refuse_other_models(recipe)
    seen: list[bool] = []
    if probe(recipe, lambda model: changed_targets(model, change, seen)) and not any(seen):
        raise NotApplicable("the loss is no cross-entropy, or the targets of a batch are so already")
    return around_training(recipe, lambda job: changed_targets(job.model, change, seen))


def refuse_other_models(recipe: Recipe) -> None:
    """Raise NotApplicable for models that do not predict the token that follows."""
    from ...evidence.lessons import NOT_LEFT_TO_RIGHT, is_encoder_decoder

    model = recipe.model()
    other = (*NOT_LEFT_TO_RIGHT, "SequenceClassification")
    if is_encoder_decoder(model) or any(part in type(model).__name__ for part in other):
        raise NotApplicable("the model does not predict the token that follows")


def probe(recipe: Recipe, context: Callable[[nn.Module], contextlib.AbstractContextManager[Any]]) -> bool:
    """Take the loss of one batch of ``recipe`` in ``context(model)``; False where its batches are made in its loop."""
    import torch

    from ...building import rows_of
    from ...isolation import preserved_settings
    from ...training import collate, model_loss

    if recipe.train is not None and recipe.collate is None and recipe.loss is None:
        return False
    with preserved_settings(recipe.threads), torch.no_grad():
        model = recipe.model()
        try:
            rows = rows_of(recipe, "train_data")
            batch = (recipe.collate or collate)([rows[i] for i in range(min(len(rows), 2 * recipe.batch_size))])
            with context(model):
                (recipe.loss or model_loss)(model, batch)
        except Exception:
            # A loop need not use the recipe's parts in this way.
            return False
    return True


@contextlib.contextmanager
def changed_targets(model: nn.Module, change: Change, seen: list[bool]) -> Iterator[None]:
    """In the body, what ``model`` is trained on goes through ``change``; ``seen`` collects whether that altered it."""
    import torch
    import torch.nn.functional as F

    from ...observers.arguments import named_arguments

    given: dict[str, Any] = {}

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.clear()
        given.update(named_arguments(module, args, kwargs))

    original = F.cross_entropy

    def cross_entropy(input: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        targets = _targets(target, given)
        if targets is not None:
            changed = change(targets).reshape(target.shape)
            seen.append(not torch.equal(changed, target))
            target = changed
        return original(input, target, *args, **kwargs)

    hook = model.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        with patched(F, "cross_entropy", cross_entropy):
            yield
    finally:
        hook.remove()


def _targets(target: Tensor, given: dict[str, Any]) -> Targets | None:
    """``target`` [rows * length], or a position less a row, against the model's inputs; None where it is neither."""
    import torch

    ids, mask = given.get("input_ids"), given.get("attention_mask")
    if ids is None:
        whole = (t for t in given.values() if isinstance(t, torch.Tensor) and t.dim() == 2 and t.dtype == torch.int64)
        ids = next(whole, None)
    if ids is None or ids.dim() != 2 or target.is_floating_point():
        return None
    rows, length = ids.shape
    real = mask.bool() if isinstance(mask, torch.Tensor) and mask.shape == ids.shape else torch.ones_like(ids).bool()
    if target.numel() == rows * (length - 1):
        return Targets(target.reshape(rows, length - 1), ids[:, 1:], real[:, 1:])
    if target.numel() == rows * length:
        end = torch.full_like(ids[:, :1], IGNORED)
        return Targets(
            target.reshape(rows, length), torch.cat([ids[:, 1:], end], 1), torch.cat([real[:, 1:], end > 0], 1)
        )
    return None
