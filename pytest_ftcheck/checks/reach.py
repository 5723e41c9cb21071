"""The check that gradients reach all that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.names import EXPERT, active_adapters, first_few_of, is_idle
from ..theory.parameters import base_name
from .check import Finding, check
from .sabotages.movement import FACTORS_ZERO, GRADIENTS_CUT

if TYPE_CHECKING:
    from torch import Tensor

    from ..evidence.evidence import Evidence
    from ..observers.trace import Trace


@check(
    "every-trainable-has-a-gradient",
    "parameters",
    "a gradient that is not zero reaches every trainable parameter in use, within the first updates",
    controls=[FACTORS_ZERO, GRADIENTS_CUT],
    catches=[
        "https://github.com/huggingface/peft/issues/793",
        "https://github.com/huggingface/peft/issues/899",
        "https://github.com/huggingface/transformers/issues/21381",
        "https://github.com/huggingface/transformers/issues/23170",
    ],
)
def every_trainable_has_a_gradient(evidence: Evidence) -> Iterator[Finding]:
    trace = evidence.trace
    deep = [update for update in trace.updates if update.deep]
    # Until B has moved, A of a LoRA has a gradient of exactly 0; and a warm-up may begin with a rate of 0.
    if len(deep) < 3 or not any(rate for update in deep[:-1] for rate in update.lr):
        raise NotApplicable("fewer than three updates with a learning rate above 0 were made")
    trainable = [name for name, on in trace.trainable.items() if on]
    reached = {name for update in deep for name, gradient in update.gradients.items() if bool(gradient.any())}
    lacking = [name for name in trainable if name not in reached]
    if not reached and not any(update.backwards for update in deep):
        raise NotApplicable("backward() is not called (backward-before-every-update says so)")
    if lacking and reached.intersection(trainable):
        lacking = _unexcused(lacking, reached, evidence)
    if lacking:
        cause, remedy = _why_cut(lacking, trace)
        yield Finding(
            summary=f"{len(lacking)} of {len(trainable)} trainable tensors got no gradient in {len(deep)} updates",
            cause=cause,
            remedy=remedy,
            evidence=(first_few_of(lacking),),
        )


def _supervises(trace: Trace) -> bool:
    """Whether a gradient that is not zero came back to logits, or none were seen."""
    seen = [forward for forward in trace.forwards if forward.logits is not None]
    return not seen or any(f.logits_gradient is not None and bool(f.logits_gradient.any()) for f in seen)


def _unexcused(lacking: list[str], reached: set[str], evidence: Evidence) -> list[str]:
    """Without what may lack one in a sound training: experts that got no token, tokens that no row has, modules that
    the forward pass does not use, and outermost ones (a pooler, a second head) whose output the loss does not use.
    """
    final = evidence.standard.final
    lacking = [name for name in lacking if not _waits_for_its_twin(name, reached, final)]
    served = {EXPERT.sub(r"\1.*.", name) for name in reached}
    lacking = [name for name in lacking if EXPERT.sub(r"\1.*.", name) not in served and "trainable_tokens_" not in name]
    modules = {base_name(name) for name in reached}
    inputs = _input_embedding(evidence.trace.model)
    lacking = [name for name in lacking if base_name(name) in modules or _has_number(name) or base_name(name) == inputs]
    used = _used_modules(evidence) if lacking else None
    return [name for name in lacking if used is None or base_name(name) in used]


def _waits_for_its_twin(name: str, reached: set[str], final: Mapping[str, Tensor]) -> bool:
    """Whether it is A of a LoRA whose B gets a gradient and never moves from 0: which is what is wrong there."""
    twin = name.replace("lora_A.", "lora_B.").replace("lora_embedding_A.", "lora_embedding_B.")
    return twin != name and twin in reached and not bool(final[twin].any())


def _has_number(name: str) -> bool:
    """Whether it is of one of several layers, and not of the first or last module around them."""
    return any(part.isdigit() for part in name.split("."))


def _input_embedding(model: Any) -> str | None:
    try:
        wanted = model.get_input_embeddings()
    except Exception:  # not every model has the method, nor makes it work
        return next((base_name(name) for name, _ in model.named_parameters()), None)
    return next((base_name(f"{name}.weight") for name, module in model.named_modules() if module is wanted), None)


def _used_modules(evidence: Evidence) -> set[str] | None:
    """The modules, by their names in the base model, that a forward pass calls; None where it cannot be made."""
    import copy

    model = copy.deepcopy(evidence.trace.model)
    used: set[str] = set()
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: used.add(base_name(f"{name}.weight")))
    try:
        evidence.logits(model)
    except Exception:  # a model that its loop calls in its own way; then all of it counts as used
        return used or None
    return used


def _why_cut(lacking: list[str], trace: Trace) -> tuple[str, str]:
    known = set(getattr(trace.model, "peft_config", {}))
    active = active_adapters(trace.model)
    if not _supervises(trace):
        return (
            "no gradient came back even to the logits: the loss is detached, or every label is masked",
            "differentiate the loss that the model returned, with labels of which some are not -100",
        )
    if _both_zero(lacking, trace):
        return (
            "A and B of the adapter both begin at 0: neither ever gets a gradient",
            "initialise one of them at random (init_lora_weights=True)",
        )
    if any(is_idle(name, known, active) for name in lacking):
        return "they belong to an adapter that is not active", "call set_adapter after the last adapter has been added"
    if any(".original_module." in name for name in lacking):
        return "the original of a trained copy (modules_to_save) requires gradients", "freeze it, or upgrade peft"
    if any(getattr(module, "gradient_checkpointing", False) for module in trace.model.modules()):
        return (
            "reentrant gradient checkpointing: its segments pass no gradient on when their input requires none",
            "use_reentrant=False, or model.enable_input_require_grads()",
        )
    return (
        "the way from the loss to them is cut: detach(), no_grad(), reentrant checkpointing over frozen embeddings, or "
        "a part that the loss does not use",
        "take the cut out, or do not let them require gradients",
    )


def _both_zero(lacking: list[str], trace: Trace) -> bool:
    factors = [name for name in lacking if ".lora_A." in name or ".lora_B." in name]
    return bool(factors) and not any(bool(trace.initial[name].any()) for name in factors)
