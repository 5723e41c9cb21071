"""The training's objective as a number that can be computed again on other parameters.

What a forward pass was taught is read off the gradient of its logits (see ``supervision``), so the cross-entropy of
those targets is the objective of whatever loss function the user wrote. Where it was none, the recipe's own ``loss`` on
the short data takes its place.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..isolation import evaluation_mode
from ..observers.loss import logits_of
from .supervision import supervision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..observers.update import ForwardPass
    from .evidence import Evidence

Objective = Callable[["nn.Module"], float]


def model_copy(evidence: Evidence) -> nn.Module:
    """A copy of what trained, in float32 (float64 stays), to put other parameters into."""
    import torch

    model = copy.deepcopy(evidence.trace.model)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.dtype is not torch.float64:
            tensor.data = tensor.data.float()
    return model


@contextlib.contextmanager
def holding(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """``model`` with these values in its parameters. NotApplicable where its parameters have other names or shapes."""
    import torch

    named = dict(model.named_parameters())
    if named.keys() != parameters.keys() or any(named[n].shape != p.shape for n, p in parameters.items()):
        raise NotApplicable("the parameters changed their names or shapes in the training")
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(parameters[name])
    yield model


def objective(evidence: Evidence, forwards: Sequence[ForwardPass]) -> Objective:
    """The objective of ``forwards``, without dropout: the sum of their weighted cross-entropies, or where the loss was
    another one the recipe's own on its short data.
    """
    seen = [supervision(forward) for forward in forwards]
    if seen and all(one is not None and one.is_cross_entropy for one in seen):
        return lambda model: sum(
            _cross_entropy(model, forward, one.targets, one.weights)
            for forward, one in zip(forwards, seen, strict=True)
            if one is not None
        )
    return _own_loss(evidence)


def _cross_entropy(model: nn.Module, forward: ForwardPass, targets: Tensor, weights: Tensor) -> float:
    import torch.nn.functional as F

    logits = logits_of(called(model, forward.inputs))
    if logits is None or logits.shape[:-1] != targets.shape:
        raise NotApplicable("the model called by itself shows other logits than in its training")
    losses = F.cross_entropy(logits.double().flatten(0, -2), targets.clamp_min(0).flatten(), reduction="none")
    return float((losses * weights.flatten()).sum())


def called(model: nn.Module, inputs: dict[str, Any]) -> Any:
    """The output of ``model`` in evaluation mode. NotApplicable where it does not run without its training's loop."""
    import torch

    with torch.no_grad(), evaluation_mode(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return model(**inputs)
        except Exception as error:
            raise NotApplicable(f"the model cannot be called by itself ({type(error).__name__})") from None


def _own_loss(evidence: Evidence) -> Objective:
    job = evidence.standard.job
    if evidence.recipe.loss is None or not hasattr(job.train_data, "__len__"):
        raise NotApplicable(
            "the loss is no cross-entropy over the model's logits, and the recipe has no loss of its own"
        )
    rows = [job.train_data[i] for i in range(len(job.train_data))]
    groups = [rows[start : start + job.batch_size] for start in range(0, len(rows), job.batch_size)]

    def loss(model: nn.Module) -> float:
        import torch

        with torch.no_grad(), evaluation_mode(model):
            try:
                return sum(float(job.loss(model, job.collate(copy.deepcopy(group)))) for group in groups)
            except Exception as error:
                raise NotApplicable(f"the recipe's loss cannot be called by itself ({type(error).__name__})") from None

    return loss
