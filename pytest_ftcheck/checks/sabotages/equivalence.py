"""Breaking the equality of ways to the same update: around any loop, by what its backward passes go through."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .wrapping import after_adapting, around_training, patched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...recipe import Job, Recipe


def _accumulating(recipe: Recipe) -> Recipe:
    """``recipe``, if it accumulates gradients. Raises NotApplicable if not: there is nothing to break."""
    if recipe.accumulation == 1:
        raise NotApplicable("the recipe does not accumulate gradients")
    return recipe


def _not_divided(recipe: Recipe) -> Recipe:
    recipe = _accumulating(recipe)
    return around_training(recipe, lambda job: losses_times(job, lambda _: job.accumulation))


def _mean_of_means(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        counts: list[int] = []

        def weight(batch: dict[str, Any]) -> float:
            """Takes the share of this micro-batch's tokens away, and gives it that of the first."""
            if len(counts) == job.accumulation:
                counts.clear()
            counts.append(_tokens(batch))
            return counts[0] / max(counts[-1], 1)

        with losses_times(job, weight):
            yield

    return around_training(_accumulating(recipe), context)


def _tokens(batch: dict[str, Any]) -> int:
    """Supervised tokens, where the model is given labels; else its whole-number inputs that are not zero."""
    import torch

    labels = batch.get("labels")
    if isinstance(labels, torch.Tensor) and labels.dim() > 1:
        return int((labels[:, 1:] >= 0).sum())
    whole = (v for v in batch.values() if isinstance(v, torch.Tensor) and not v.is_floating_point())
    return sum(int((value != 0).sum()) for value in whole)


@contextlib.contextmanager
def losses_times(job: Job, factor: Callable[[dict[str, Any]], float]) -> Iterator[None]:
    """While it lasts, every loss is multiplied by ``factor(inputs of its forward pass)`` before it goes backward."""
    import torch

    from ...observers.arguments import named_arguments

    seen: list[dict[str, Any]] = [{}]

    def remember(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        seen[0] = dict(named_arguments(model, args, kwargs))

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        is_loss = isinstance(tensors, torch.Tensor) and tensors.dim() == 0
        original(tensors * factor(seen[0]) if is_loss else tensors, *args, **kwargs)

    hook = job.model.register_forward_pre_hook(remember, with_kwargs=True)
    with patched(torch.autograd, "backward", backward) as original:
        try:
            yield
        finally:
            hook.remove()


def _lost(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        import torch

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            for parameter in job.model.parameters():
                parameter.grad = None
            original(tensors, *args, **kwargs)

        with patched(torch.autograd, "backward", backward) as original:
            yield

    return around_training(_accumulating(recipe), context)


def _short_window_divided_in_full(recipe: Recipe) -> Recipe:
    from ...building import rows_of
    from ...evidence.few import first

    rows = rows_of(_accumulating(recipe), "train_data")
    if hasattr(rows, "__len__"):
        # So that an epoch ends with a short window: of one micro-batch.
        window = recipe.batch_size * recipe.accumulation
        recipe = recipe.replace(train_data=first(rows, max(1, (len(rows) - 1) // window) * window + 1))
    return around_training(recipe, _short_windows_scaled)


@contextlib.contextmanager
def _short_windows_scaled(job: Job) -> Iterator[None]:
    """Gradients of so far n micro-batches are n / accumulation of what they should be: wrong if no others follow."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    count = [0]

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        _scale_gradients(job.model, job.accumulation / count[0] if count[0] else 1.0)
        original(tensors, *args, **kwargs)
        count[0] = count[0] % job.accumulation + 1
        _scale_gradients(job.model, count[0] / job.accumulation)

    def updated(optimizer: Any, args: Any, kwargs: Any) -> None:
        count[0] = 0

    hook = register_optimizer_step_post_hook(updated)
    with patched(torch.autograd, "backward", backward) as original:
        try:
            yield
        finally:
            hook.remove()


def _scale_gradients(model: nn.Module, factor: float) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _rows_mix(recipe: Recipe) -> Recipe:
    def mix(model: nn.Module) -> None:
        from torch import nn

        kinds = (nn.Embedding, nn.Linear)
        first = next(m for m in model.modules() if isinstance(m, kinds))
        first.register_forward_hook(lambda _, args, output: _with_the_first_row(output))

    return after_adapting(recipe, mix)


def _with_the_first_row(output: Tensor) -> Tensor:
    return output + 0.5 * output[:1] if output.dim() > 1 else output


NOT_DIVIDED = Sabotage("accumulation-not-divided", "the loss is the accumulation times too large", _not_divided)
MEAN_OF_MEANS = Sabotage("mean-of-means", "every micro-batch counts the same, however few its tokens", _mean_of_means)
LOST_BETWEEN_MICRO_BATCHES = Sabotage(
    "zeroed-between-micro-batches", "gradients are zeroed before every micro-batch", _lost
)
SHORT_WINDOW_DIVIDED_IN_FULL = Sabotage(
    "short-window-divided-in-full",
    "the last window of an epoch is divided by the whole accumulation",
    _short_window_divided_in_full,
)
ROWS_MIX = Sabotage("rows-mix", "the first row of a batch leaks into the others", _rows_mix)
