"""The logits of a language model whose loss never shows them: fused and chunked losses go from the hidden states and
the head's weight to the loss in one, and mixed precision returns a copy in float32 that the loss was not taken of.

The derivative of w · CE(W h + b, target) by the hidden state h is w · Wᵀ(p − onehot(target)). All but w and the target
are known once h and its gradient are, and a vocabulary's rows W are different enough that only one target fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

# How far the gradient may be from that form, relative to its norm. In float32 it is 1e-5 (measured), where bfloat16 is
# somewhere on the way, as under autocast, up to 1 %.
FITS, EXACT = 0.03, 1e-4


class HeadInput:
    """Notes the hidden states that leave the body of ``model`` in one forward pass, and their gradient.

    It sees nothing in models that do not say what their body and their head are, or whose head is more than linear.
    """

    def __init__(self, model: nn.Module) -> None:
        self.states: Tensor | None = None
        self.gradient: Tensor | None = None
        self.head, body = _head_and_body(model)
        self._hook = body.register_forward_hook(self._on_output) if body is not None and self.head is not None else None

    def release(self) -> None:
        """Stop watching; a gradient is still noted."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _on_output(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        import torch

        states = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else None)
        if isinstance(states, torch.Tensor) and states.requires_grad:
            self.states = states.detach()
            states.register_hook(self._on_gradient)  # type: ignore[no-untyped-call]

    def _on_gradient(self, gradient: Tensor) -> None:
        part = gradient.detach()
        self.gradient = part.clone() if self.gradient is None else self.gradient + part

    def logits(self, most: int) -> tuple[Tensor, Tensor] | None:
        """Logits [..., vocabulary] and their gradient, in float32; None where they would have more than ``most``
        numbers, or the gradient is not one of cross-entropies.
        """
        import torch

        states, gradient, head = self.states, self.gradient, self.head
        if states is None or gradient is None or head is None:
            return None
        weight = head.weight.detach().float()
        if states[..., 0].numel() * len(weight) > most:
            return None
        logits = torch.nn.functional.linear(
            states.float(), weight, head.bias if head.bias is None else head.bias.float()
        )
        by_logits = torch.zeros_like(logits)
        taught = torch.linalg.vector_norm(gradient.float(), dim=-1) > 0
        found = _by_logits(logits[taught].softmax(dim=-1), weight, gradient[taught].float())
        if found is None:
            return None
        explained, off = found
        # No more exact than what it was told from.
        by_logits[taught] = explained if off <= EXACT else explained.bfloat16().float()
        return logits.detach(), by_logits.detach()


def _head_and_body(model: nn.Module) -> tuple[nn.Linear | None, nn.Module | None]:
    """The linear output layer of a transformers model and the part below it; None where they are not to be told."""
    from torch import nn

    inner: Any = getattr(model, "get_base_model", lambda: model)()
    try:
        head, body = inner.get_output_embeddings(), inner.base_model
    except (AttributeError, NotImplementedError):
        return None, None
    if isinstance(head, nn.Linear) and isinstance(body, nn.Module) and body is not inner:
        return head, body
    return None, None


def _by_logits(p: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, float] | None:
    """w · (p − onehot(target)) for the w and the target that explain ``gradient`` [positions, width], and how far from
    it they are at worst; w is negative where the token was made less likely. None where some position has none.
    """
    import torch

    mean = p @ weight
    # For every candidate t: <gradient, mean − W_t>, and |mean − W_t|².
    along = (gradient * mean).sum(-1, keepdim=True) - gradient @ weight.T
    size = (mean * mean).sum(-1, keepdim=True) - 2 * mean @ weight.T + (weight * weight).sum(-1)
    size = size.clamp_min(1e-30)
    targets = (along * along / size).argmax(dim=-1, keepdim=True)
    scale = along.gather(-1, targets) / size.gather(-1, targets)
    rest = gradient - scale * (mean - weight[targets[:, 0]])
    if not len(gradient):
        return p, 0.0
    off = float((torch.linalg.vector_norm(rest, dim=-1) / torch.linalg.vector_norm(gradient, dim=-1)).max())
    if not off <= FITS:
        return None
    return scale * p.scatter_add(-1, targets, -torch.ones_like(scale)), off
