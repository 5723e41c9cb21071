"""Logits that can be compared: computed in float64 where the model runs in it, so that only mistakes differ.

Merging or reloading a model changes the order of its arithmetic, or the dtype of its weights. How much that alone may
change logits is measured on the model itself, and not guessed: science.md §4.6 of fixed tolerances says that they are
either blind or flaky.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .evidence import Evidence

# Beyond this many parameters no copy in float64 is made: it would take half a gigabyte.
LARGEST = 60_000_000
# The difference of two computations may be this many times the measured rounding of one: c of science.md §4.6.
FACTOR = 8.0
# Rounding of the largest logit that no measurement shows where weights happen to be exact in the coarser dtype.
FLOOR = 16.0


class Precision:
    """Logits of copies of one recipe's model, in the highest precision that it runs in, and what rounding explains.

    Raises NotApplicable where the model cannot be called by itself with the inputs of its training.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._model = evidence.moved_model()
        self._noise: dict[torch.dtype, float] = {}
        self.dtype, self.reference = self._highest()

    def logits(self, model: nn.Module, **changes: Any) -> Tensor:
        """The logits of ``model``, in float64, of the first training inputs; ``changes`` are further arguments."""
        return self._run(model, self.dtype, changes)

    def tolerance(self, *rounded: nn.Module) -> float:
        """The largest difference of logits that rounding explains where weights were rounded to the coarsest dtype of
        the models ``rounded``; without any, or for those in float32, that of single steps in float32.
        """
        coarse = _coarsest(*rounded)
        if coarse not in self._noise:
            self._noise[coarse] = self._rounding(coarse)
        return FACTOR * self._noise[coarse]

    def between(self, one: nn.Module, other: nn.Module) -> float:
        """The tolerance for two models that hold the same weights: wide only where one holds some in another dtype."""
        return self.tolerance() if _dtypes(one) == _dtypes(other) else self.tolerance(one, other)

    def _rounding(self, dtype: torch.dtype) -> float:
        """How far the logits of one pass in ``dtype`` are from those in the highest precision."""
        import torch

        floor = FLOOR * torch.finfo(dtype).eps * float(self.reference.abs().max())
        if self.dtype is None or torch.finfo(self.dtype).eps >= torch.finfo(dtype).eps:
            return FLOOR * floor  # nothing more precise to measure it by
        try:
            return max(floor, distance(self._run(self._model, dtype, {}), self.reference))
        except Exception:
            return FLOOR * floor

    def _highest(self) -> tuple[torch.dtype | None, Tensor]:
        import torch

        if sum(p.numel() for p in self._model.parameters()) <= LARGEST:
            for dtype in (torch.float64, torch.float32):
                try:
                    logits = self._run(self._model, dtype, {})
                except NotApplicable:
                    raise
                except Exception:
                    continue
                if bool(torch.isfinite(logits).any()):
                    return dtype, logits
        try:
            return None, self._run(self._model, None, {})
        except NotApplicable:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise NotApplicable(f"the model cannot be called by itself with its training inputs ({reason})") from None

    def _run(self, model: nn.Module, dtype: torch.dtype | None, changes: dict[str, Any]) -> Tensor:
        inputs = {**self._evidence.inputs(), **changes}
        if dtype is not None:
            model = copy.deepcopy(model).to(dtype)
            inputs = {key: _as(value, dtype) for key, value in inputs.items()}
        return self._evidence.logits(model, **inputs).double()


def _coarsest(*models: nn.Module) -> torch.dtype:
    """The dtype with the largest rounding among the weights of ``models`` and float32."""
    import torch

    found = {dtype for model in models for dtype in _dtypes(model).values()}
    return max({torch.float32, *found}, key=lambda dtype: torch.finfo(dtype).eps)


def _dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """Name -> dtype of every parameter and buffer of floating point: a cast rounds rotary frequencies too."""
    held = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.dtype for name, tensor in held if tensor.dtype.is_floating_point}


def precision(evidence: Evidence) -> Precision:
    """The one ``Precision`` of an evidence."""
    return evidence.once(Precision, lambda: Precision(evidence))


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, in float64; infinite where shapes differ, NaN where a number is missing from one."""
    import torch

    if one.shape != other.shape:
        return float("inf")
    one, other = one.detach().double(), other.detach().double()
    apart = torch.where(one == other, torch.zeros_like(one), (one - other).abs())
    return float(apart.max()) if apart.numel() else 0.0


def _as(value: Any, dtype: torch.dtype) -> Any:
    import torch

    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
