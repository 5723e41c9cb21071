"""Whether a row's outcome depends on what shares its batch: its logits there, against those of the row alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .lessons import is_encoder_decoder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .evidence import Evidence

# A model's logits of a row in a batch and alone differ by 1e-6 of the largest logit in float32 (measured, with and
# without an attention mask); a row that sees what it must not differs by 4e-3 and more.
SAME = 1e-4
# So many sequences are compared; more of the same batch add nothing.
MOST_SEQUENCES = 6
# Inputs that mean something else, or nothing, for a part of a row.
REFUSED = ("inputs_embeds", "past_key_values", "pixel_values", "encoder_outputs", "token_type_ids_for_packing")


@dataclass(frozen=True)
class Comparison:
    """``difference`` is the largest between the logits of ``sequence`` (a row and its places) alone and in its batch,
    relative to the largest logit.
    """

    row: int
    places: tuple[int, ...]
    difference: float


def compared(evidence: Evidence, wanted: list[tuple[int, list[int]]], inputs: dict[str, Any]) -> list[Comparison]:
    """For each (row, places) in ``wanted`` how far the logits in the batch of ``inputs`` are from those of a batch of
    that part alone. NotApplicable where the model does not take it so.
    """
    import torch

    if any(inputs.get(name) is not None for name in REFUSED) or is_encoder_decoder(evidence.trace.model):
        raise NotApplicable("the model's inputs cannot be taken apart")
    ids = evidence.trace.forwards[0].input_ids
    assert ids is not None
    model = model_in_float32(evidence)
    together = _logits(model, inputs)
    scale = float(together.abs().max())
    found = []
    for row, places in wanted[:MOST_SEQUENCES]:
        alone = _logits(model, _part(inputs, ids.shape, row, places))[0]
        there = together[row]
        if there.dim() == 2:
            there = there[torch.as_tensor(places, device=there.device)]
        if there.shape != alone.shape:
            raise NotApplicable("the logits do not stand at the positions of the input")
        found.append(Comparison(row, tuple(places), float((there - alone).abs().max()) / scale))
    return found


def later_token_changes(
    evidence: Evidence, wanted: list[tuple[int, int, list[int]]], inputs: dict[str, Any]
) -> list[Comparison]:
    """For each (row, place, earlier places) in ``wanted`` how far the logits at the earlier places move when the token
    at ``place`` becomes another. NotApplicable where the model does not take its inputs so.
    """
    if any(inputs.get(name) is not None for name in REFUSED) or is_encoder_decoder(evidence.trace.model):
        raise NotApplicable("the model's inputs cannot be changed token by token")
    name = next((name for name, value in inputs.items() if value is evidence.trace.forwards[0].input_ids), None)
    if name is None:
        raise NotApplicable("the model's inputs show no tokens by name")
    model, ids = model_in_float32(evidence), inputs[name]
    before = _logits(model, inputs)
    if before.dim() != 3 or before.shape[:2] != ids.shape:
        raise NotApplicable("the logits do not stand at the positions of the input")
    changed = ids.clone()
    for row, place, _ in wanted[:MOST_SEQUENCES]:
        # A token that the batch has elsewhere: any vocabulary knows it.
        others = ids[ids != ids[row, place]]
        if not len(others):
            raise NotApplicable("the first batch holds one token only")
        changed[row, place] = others[0]
    after, scale = _logits(model, {**inputs, name: changed}), float(before.abs().max())
    return [
        Comparison(row, tuple(places), float((after[row, places] - before[row, places]).abs().max()) / scale)
        for row, _, places in wanted[:MOST_SEQUENCES]
    ]


def model_in_float32(evidence: Evidence) -> Any:
    """A copy of the model with its adapter moved, in float32, without the autocast that accelerate puts around it."""
    model: Any = evidence.moved_model().float()
    model.forward = vars(model).get("_original_forward", model.forward)
    return model


def _logits(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    import torch

    from ..isolation import evaluation_mode
    from ..observers.loss import logits_of

    try:
        with torch.no_grad(), evaluation_mode(model):
            logits = logits_of(model(**inputs))
    except Exception as error:
        # What a model takes besides its training inputs is its own affair.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotApplicable(f"the model does not take a row alone: {reason}") from None
    if logits is None:
        raise NotApplicable("the model's output shows no logits")
    return logits.float()


def _part(inputs: dict[str, Any], shape: Any, row: int, places: list[int]) -> dict[str, Any]:
    """The inputs of one row's ``places`` alone. The mask is all ones; positions count from where they did."""
    import torch

    part = {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.shape == shape:
            part[name] = value[row : row + 1, torch.as_tensor(places, device=value.device)]
        elif isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == shape[0]:
            raise NotApplicable(f"the input {name!r} cannot be taken apart")
        else:
            part[name] = value
    mask = part.get("attention_mask")
    return part if mask is None else {**part, "attention_mask": torch.ones_like(mask)}
