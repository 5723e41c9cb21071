"""The parameters behind what an adapter shows, and what they have learned."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import NotApplicable


def parameter_of(wrapped: nn.Module, shown: Tensor) -> nn.Parameter | None:
    """The parameter of ``wrapped`` that ``shown`` is a view of; None where it is no parameter's."""
    storage = shown.untyped_storage().data_ptr()
    return next((one for one in wrapped.parameters() if one.untyped_storage().data_ptr() == storage), None)


def gradient_of(wrapped: nn.Module, shown: Tensor) -> Tensor | None:
    """The gradient of ``shown``, in its shape; None where it has none. Raises NotApplicable for what is a copy."""
    parameter = parameter_of(wrapped, shown)
    if parameter is None:
        raise NotApplicable("what the adapter shows of its parameters are copies")
    if parameter.grad is None:
        return None
    return parameter.grad.as_strided(shown.shape, shown.stride(), shown.storage_offset() - parameter.storage_offset())
