"""Breaking gradient checkpointing and compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ...evidence.activations import enable_checkpointing
from ..check import Sabotage
from .wrapping import after_adapting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...recipe import Recipe


def _checkpointing_cuts_the_graph(recipe: Recipe) -> Recipe:
    def cut(model: nn.Module) -> None:
        # So that something trains beyond the last checkpointed layer, without which the first backward pass raises.
        for parameter in list(model.parameters())[-1:]:
            parameter.requires_grad_(True)
        enable_checkpointing(model, use_reentrant=True)
        # From 5.0 on, transformers lets the embeddings' outputs require gradients by itself, with a hook.
        embeddings: Any = model.get_input_embeddings
        embeddings()._forward_hooks.clear()

    if not hasattr(recipe.model(), "gradient_checkpointing_enable"):
        raise NotApplicable("the model offers no gradient checkpointing")
    return after_adapting(recipe, cut)


def _compiled_model_differs(recipe: Recipe) -> Recipe:
    def differ(model: nn.Module) -> None:
        from torch import nn

        first = next((m for m in model.modules() if isinstance(m, nn.Linear)), model)
        first.register_forward_hook(lambda _, args, output: _larger_if_compiled(output))

    return after_adapting(recipe, differ)


def _larger_if_compiled(output: Tensor) -> Tensor:
    import torch

    return output * 1.5 if torch.compiler.is_compiling() else output


CHECKPOINTING_CUTS_THE_GRAPH = Sabotage(
    "checkpointing-cuts-the-graph",
    "reentrant checkpointing over frozen embeddings",
    _checkpointing_cuts_the_graph,
    method="adapter",
)
COMPILED_MODEL_DIFFERS = Sabotage(
    "compiled-model-differs", "a layer computes more when compiled", _compiled_model_differs
)
