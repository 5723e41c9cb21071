"""What most likely brought about that a training step costs more, or less, than it did: patterns that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .cost import Cost
from .prediction import SAVED, Held

# How the operations of attention name the kernel that they are.
KERNELS = {
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_efficient_attention": "memory-efficient",
    "aten::_scaled_dot_product_cudnn_attention": "cuDNN",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash (CPU)",
    "aten::_softmax": "plain (scores kept)",
}
ADAPTERS = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")
# Below this change of the ratio of backward to forward operations nothing of note is recomputed.
RECOMPUTED = 0.05
MOST_NAMED = 3
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")
# What modules of attention have in their names.
ATTENTION = ("attn", "attention")


def causes(before: Cost, after: Cost) -> tuple[str, ...]:
    """A line for each pattern that the change from ``before`` to ``after`` shows; empty where none is known."""
    return tuple(line for pattern in PATTERNS for line in pattern(before, after))


def _checkpointing(before: Cost, after: Cost) -> Iterator[str]:
    """What is recomputed is done in the backward pass, and what is not recomputed is kept: the two move oppositely."""
    recomputed = _backward_share(after) - _backward_share(before)
    kept = after.memory.activations_bytes - before.memory.activations_bytes
    if _kernels(before) != _kernels(after) or abs(recomputed) < RECOMPUTED:
        return
    if recomputed < 0 < kept:
        yield "gradient checkpointing is off: activations are kept, and were computed again in the backward pass"
    if kept < 0 < recomputed:
        yield "gradient checkpointing is on: activations are computed again in the backward pass, and were kept"


def _backward_share(cost: Cost) -> float:
    return cost.flops.backward / cost.flops.forward if cost.flops.forward else 0.0


def _rank(before: Cost, after: Cost) -> Iterator[str]:
    """The adapters' matrices, in as many places as before, have all grown by one factor."""
    old, new = _adapters(before), _adapters(after)
    if not old or old.keys() != new.keys():
        return
    factors = {round(new[kind] / old[kind], 2) for kind in old}
    if len(factors) == 1 and factors != {1.0}:
        yield f"the rank of the adapters is {factors.pop():g} times what it was"


def _adapters(cost: Cost) -> dict[tuple[str, str, int], int]:
    """(Module, dtype, how many) -> bytes of the weights of adapters."""
    weights = [held for held in _held(cost) if held.category == "weights" and held.module.endswith(ADAPTERS)]
    return {(held.module, held.dtype, held.count): held.bytes for held in weights}


def _copies_for_adapters(before: Cost, after: Cost) -> Iterator[str]:
    """PEFT casts an adapted module's input to the adapter's dtype, and autograd keeps the copy."""
    yield from _appeared(
        _casting_modules(before),
        _casting_modules(after),
        "{} an own copy of the input in the adapter's dtype: adapters in float32 on a base in half precision "
        "(PEFT's default, autocast_adapter_dtype=True)",
        ("keeps", "keep"),
    )


def _casting_modules(cost: Cost) -> set[str]:
    kinds = _held(cost)
    casts = {k.module for k in kinds if (k.category, k.op, k.dtype) == ("activations", "aten::_to_copy", "float32")}
    adapted = {k.module.rpartition(".")[0] for k in kinds if k.module.endswith(ADAPTERS)}
    return casts & adapted | {module for module in casts if module.endswith(ADAPTERS)}


def _cache(before: Cost, after: Cost) -> Iterator[str]:
    """A cache of keys and values concatenates each layer's with what it has."""
    yield from _appeared(
        _modules(before, ("aten::cat",), *ATTENTION),
        _modules(after, ("aten::cat",), *ATTENTION),
        "{} keys and values in a cache: use_cache is on, which training never needs",
        ("keeps", "keep"),
    )


def _output(before: Cost, after: Cost) -> Iterator[str]:
    """More of what a head returned is held when the backward pass begins, which needs none of it; or more activations
    when that pass is over.
    """
    if before.flops != after.flops:
        # With checkpointing, or when more trains, more is held because it is needed.
        return
    old, new = _heads(before), _heads(after)
    kept = {module for module, held in new.items() if held > old.get(module, 0)}
    if kept or _activations_left(after) > _activations_left(before) >= 0:
        yield (
            f"what {_named(kept or {''})} returned is still held in the backward pass or after it: a reference to the "
            "output (the logits, the loss) is kept; take the loss alone, or del the output"
        )


def _heads(cost: Cost) -> dict[str, int]:
    """Module that multiplies matrices outside all blocks -> bytes that are held of what it returned."""
    held = [held for held in _held(cost, SAVED) if held.op in PRODUCTS and held.category != "gradients"]
    return {one.module: one.bytes for one in held if one.module and "*" not in one.module}


def _activations_left(cost: Cost) -> int:
    """Bytes of activations that are held while the optimizer steps; -1 where nothing was allocated then."""
    return next((moment.breakdown.activations for moment in cost.moments if moment.phase == "optimizer"), -1)


def _gradients_in_forward(before: Cost, after: Cost) -> Iterator[str]:
    if before.accumulation > 1 or after.accumulation > 1:
        # Those of earlier micro-batches, which belong there.
        return
    held = [any(one.category == "gradients" for one in _held(cost, "forward")) for cost in (before, after)]
    if held == [False, True]:
        yield (
            "gradients are held in the forward pass: zero_grad(set_to_none=False), or zero_grad after the forward "
            "pass, or none"
        )
    if held == [True, False]:
        yield "gradients are no longer held in the forward pass: zero_grad sets them to None"


def _trains(before: Cost, after: Cost) -> Iterator[str]:
    """More bytes of gradients, and modules that had none, or fewer."""
    grown = after.memory.gradients_bytes - before.memory.gradients_bytes
    more, fewer = _more_trained(before, after), _more_trained(after, before)
    if grown > 0 and more:
        yield f"{_named(more)}: more trains than before (requires_grad), with gradients and optimizer state"
    if grown < 0 and fewer:
        yield f"{_named(fewer)}: less trains than before (requires_grad)"


def _more_trained(before: Cost, after: Cost) -> set[str]:
    old, new = _trained(before), _trained(after)
    return {module for module, count in new.items() if count > old.get(module, 0)}


def _trained(cost: Cost) -> dict[str, int]:
    """Module -> how many gradients, or tensors of optimizer state, are held for it, at the most."""
    counts: dict[str, int] = {}
    for held in _held(cost):
        if held.category in ("gradients", "optimizer"):
            counts[held.module] = max(held.count, counts.get(held.module, 0))
    return counts


def _foreach(before: Cost, after: Cost) -> Iterator[str]:
    old, new = (any(held.op.startswith("aten::_foreach_") for held in _held(c, "optimizer")) for c in (before, after))
    if new and not old:
        yield (
            "the optimizer takes all parameters at once (foreach), with temporaries as large as they are; with "
            "fused=True it needs none"
        )
    if old and not new:
        yield "the optimizer no longer takes all parameters at once (foreach), and needs no temporaries for it"


def _attention(before: Cost, after: Cost) -> Iterator[str]:
    old, new = _kernels(before), _kernels(after)
    if old and new and old != new:
        yield (
            f"attention is computed by another kernel ({', '.join(sorted(new))}; before {', '.join(sorted(old))}): a "
            "mask that was not there, the dtype, the size of the heads or attn_implementation decides"
        )


def _kernels(cost: Cost) -> set[str]:
    """The kernels that attention is computed by, as far as something that they made is held."""
    sdpa = {held.op for held in _held(cost) if held.op in KERNELS and held.op != "aten::_softmax"}
    plain = {"aten::_softmax"} if _modules(cost, ("aten::_softmax",), *ATTENTION) else set()
    return {KERNELS[op] for op in sdpa | plain}


def _mask(before: Cost, after: Cost) -> Iterator[str]:
    """Attention is given a mask as numbers, which are made of one of booleans."""
    old, new = (_modules(cost, ("aten::where",), *ATTENTION) for cost in (before, after))
    yield from _appeared(old, new, "{} a mask: there is padding in the batch, and there was none", ("keeps", "keep"))


def _dropout(before: Cost, after: Cost) -> Iterator[str]:
    ops = ("aten::native_dropout", "aten::bernoulli_", "aten::bernoulli")
    old, new = _modules(before, ops), _modules(after, ops)
    yield from _appeared(old, new, "dropout is on: {} a mask", ("keeps", "keep"))
    yield from _appeared(new, old, "dropout is off: {} no mask", ("keeps", "keep"))


def _sizes(before: Cost, after: Cost) -> Iterator[str]:
    if before.tokens != after.tokens:
        yield f"a micro-batch has {after.tokens} tokens, before {before.tokens}: other rows, lengths or batch size"


def _versions(before: Cost, after: Cost) -> Iterator[str]:
    packages = sorted(before.versions.keys() | after.versions.keys())
    changed = [package for package in packages if before.versions.get(package) != after.versions.get(package)]
    if changed:
        yield f"another release of {', '.join(changed)}"


PATTERNS: tuple[Callable[[Cost, Cost], Iterator[str]], ...] = (
    _checkpointing,
    _rank,
    _copies_for_adapters,
    _cache,
    _output,
    _gradients_in_forward,
    _trains,
    _foreach,
    _attention,
    _mask,
    _dropout,
    _sizes,
    _versions,
)


def _held(cost: Cost, phase: str | None = None) -> list[Held]:
    """What is held at the highest point of ``phase``, or of any."""
    return [held for moment in cost.moments if phase in (None, moment.phase) for held in moment.held]


def _modules(cost: Cost, ops: tuple[str, ...], *parts: str) -> set[str]:
    """The modules for which something that ``ops`` made is held; with ``parts``, those that have one in their name."""
    found = {held.module for held in _held(cost) if held.op in ops}
    return {module for module in found if not parts or any(part in module.lower() for part in parts)}


def _appeared(before: set[str], after: set[str], text: str, verbs: tuple[str, str]) -> Iterator[str]:
    """``text`` about the modules that are new, with the verb for one and for several."""
    new = after - before
    if new:
        yield text.format(f"{_named(new)} {verbs[len(new) > 1]}")


def _named(modules: set[str]) -> str:
    names = [f"`{name}`" if name else "the training step" for name in sorted(modules)]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
