"""Checks that what only saves memory or time leaves the gradient alone: checkpointed activations, compiled graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..deadline import deadline
from ..errors import NotApplicable, TrainingError
from ..evidence.activations import enable_checkpointing, is_checkpointed, never_checkpointed
from ..evidence.dropout import without_dropout
from ..evidence.evidence import Evidence, copy_of
from ..isolation import preserved_settings
from .check import Finding, check
from .sabotages.transformations import CHECKPOINTING_CUTS_THE_GRAPH, COMPILED_MODEL_DIFFERS

if TYPE_CHECKING:
    from torch import Tensor, nn

# Recomputed activations are the same to the bit; a traced graph may fuse or reorder operations. Relative to the norm.
FLOAT32, HALF = 1e-4, 0.05
# Tracing two tiny layers takes 2 s; nobody waits for that of a hundred.
COMPILATION_S = 30.0
# What backward() says of a loss that hangs on nothing that trains.
NO_GRAPH = "does not require grad"


@dataclass(frozen=True)
class Pass:
    """What one forward and backward pass gave: logits and the gradients of what trains."""

    logits: Tensor
    gradients: dict[str, Tensor | None]

    @property
    def without(self) -> set[str]:
        """Names of the parameters that got no gradient, or only zeros."""
        return {name for name, g in self.gradients.items() if g is None or not bool(g.any())}


@check(
    "checkpointing-keeps-the-gradient",
    "equivalence",
    "gradient checkpointing changes no logit and no gradient, and none is lost",
    controls=[CHECKPOINTING_CUTS_THE_GRAPH],
    catches=[
        "https://github.com/huggingface/transformers/issues/21381",
        "https://github.com/huggingface/transformers/issues/23170",
    ],
    cost="model",
)
def checkpointing_keeps_the_gradient(evidence: Evidence) -> Iterator[Finding]:
    try:
        trained = copy_of(evidence.trace.model).train()
    except TrainingError as error:
        if NO_GRAPH in str(error) and is_checkpointed(evidence.adapted_model()):
            yield _nothing_trains()
            return
        raise
    as_it_is = one_pass(evidence, trained)
    with never_checkpointed(trained) as was_checkpointed:
        plain = one_pass(evidence, trained)
    if was_checkpointed:
        found = _cut(plain, as_it_is, "as the training left it")
    else:
        _offer_checkpointing(trained)
        found = next(filter(None, (_cut(plain, one_pass(evidence, m), how) for m, how in _checkpointed(trained))), None)
    if found is not None:
        yield found


@check(
    "compiling-keeps-the-gradient",
    "equivalence",
    "the model as torch.compile traces it computes the same logits and gradients",
    controls=[COMPILED_MODEL_DIFFERS],
    cost="model",
)
def compiling_keeps_the_gradient(evidence: Evidence) -> Iterator[Finding]:
    import torch

    model = copy_of(evidence.trace.model).train()
    without_dropout(model)
    plain = one_pass(evidence, model)
    try:
        # Traced as for every backend, then run as it is: the others need a C++ compiler, or twice the time.
        with deadline(COMPILATION_S, "torch.compile"):
            compiled = one_pass(evidence, model, torch.compile(model, backend="eager"))
    except Exception as error:
        raise NotApplicable(f"the model does not compile: {type(error).__name__}") from None
    finally:
        torch._dynamo.reset()
    distance = _distance(plain, compiled)
    if not distance <= _near(model):
        yield Finding(
            summary=f"{distance:.2%} off the uncompiled model's logits or gradients",
            cause="the model takes another path when it is traced: a branch on a value, a hook, state kept outside",
            remedy="train uncompiled, or find the module by compiling parts of the model; TORCH_LOGS=graph_breaks "
            "helps",
        )


def one_pass(evidence: Evidence, model: nn.Module, run: Callable[..., Any] | None = None) -> Pass:
    """Forward and backward through ``run`` (default: the model) on the training's first inputs, from a fixed seed."""
    import torch

    from ..observers.loss import logits_of

    model.zero_grad(set_to_none=True)
    with preserved_settings(evidence.recipe.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(evidence.seed)
        try:
            logits = logits_of((model if run is None else run)(**evidence.inputs()))
        except Exception as error:
            reason = f"the model does not run by itself on the training's inputs: {type(error).__name__}"
            raise NotApplicable(reason) from None
        if logits is None or not logits.is_floating_point():
            raise NotApplicable("the model's output shows no logits")
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(evidence.seed)).to(logits.device)
        if logits.requires_grad:
            (logits.float() * weights).mean().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(set_to_none=True)
    return Pass(logits.detach().float(), gradients)


def _distance(one: Pass, other: Pass) -> float:
    """The larger of the distances of logits and of gradients, relative to their norms."""
    import torch

    empty = torch.zeros(1)
    pairs = [(one.logits, other.logits)]
    flat = [
        torch.cat([(empty if g is None else g.float()).flatten() for g in p.gradients.values()] or [empty])
        for p in (one, other)
    ]
    pairs += [(flat[0], flat[1])] if flat[0].shape == flat[1].shape else []
    apart = [float((a - b).norm() / a.norm().clamp_min(1e-30)) for a, b in pairs]
    return max(apart) if len(pairs) == 2 else float("inf")


def _near(model: nn.Module) -> float:
    import torch

    halves = (torch.bfloat16, torch.float16)
    return HALF if any(p.dtype in halves for p in model.parameters()) else FLOAT32


def _cut(plain: Pass, checkpointed: Pass, how: str) -> Finding | None:
    """What checkpointing lost or changed, if anything."""
    lost = checkpointed.without - plain.without
    if lost:
        return Finding(
            summary=f"{len(lost)} of {len(plain.gradients)} trainable tensors get no gradient with gradient "
            f"checkpointing {how}, e.g. {min(lost)}",
            cause="reentrant checkpointing passes gradients on only where its inputs require one, and the outputs of "
            "frozen embeddings do not",
            remedy='gradient_checkpointing_kwargs={"use_reentrant": False}, or model.enable_input_require_grads()',
        )
    distance = _distance(plain, checkpointed)
    near = HALF if bool((plain.logits.bfloat16().float() == plain.logits).all()) else FLOAT32
    if distance <= near:
        return None
    return Finding(
        summary=f"{distance:.2%} off the gradients or logits without checkpointing, with gradient checkpointing {how}",
        cause="the recomputed forward pass is not the first one: random numbers or autocast are not restored in it, "
        "or a module keeps state between its calls",
        remedy="leave preserve_rng_state=True, and keep what a checkpointed module computes free of side effects",
    )


def _nothing_trains() -> Finding:
    return Finding(
        summary="0 gradients: the loss does not depend on anything that trains, with gradient checkpointing on",
        cause="reentrant checkpointing passes gradients on only where its inputs require one, and the outputs of "
        "frozen embeddings do not",
        remedy='gradient_checkpointing_kwargs={"use_reentrant": False}, or model.enable_input_require_grads()',
    )


def _offer_checkpointing(model: nn.Module) -> None:
    if not callable(getattr(model, "gradient_checkpointing_enable", None)) or not _supports(model):
        raise NotApplicable("the training does not checkpoint, and its model offers no gradient checkpointing")


def _supports(model: nn.Module) -> bool:
    return bool(getattr(model, "supports_gradient_checkpointing", True))


def _checkpointed(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """``model`` with its checkpointing on, in each way that its documentation gives."""
    for reentrant in (False, True):
        twin = copy_of(model)
        try:
            if reentrant and not _embeddings_train(twin):
                twin.enable_input_require_grads()  # type: ignore[operator]
            enable_checkpointing(twin, reentrant)
        except (TypeError, ValueError, NotImplementedError, AttributeError):
            # transformers before 4.35 chooses by itself.
            continue
        yield twin, f"(use_reentrant={reentrant})"


def _embeddings_train(model: nn.Module) -> bool:
    embeddings: Any = getattr(model, "get_input_embeddings", lambda: None)()
    return embeddings is not None and all(p.requires_grad for p in embeddings.parameters())
