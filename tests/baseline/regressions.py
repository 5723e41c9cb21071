"""Of every metric, the smallest regression that its gate must find: what was seen before, and what is seen then."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from builders import a_memory, a_pair, a_run, tensors
from predict.synthetic import a_prediction

from pytest_ftcheck import Pair, Run
from pytest_ftcheck.predict import Prediction
from pytest_ftcheck.run import Environment, Flops, Parameters, Timing

H200 = Environment("cuda", "NVIDIA H200", "3.11.7", {"torch": "2.13.0"}, threads=1, deterministic=False)
TRAIN = tuple(3.0 - 0.01 * step for step in range(100))
EVALS = {10: 2.9, 50: 2.5, 100: 2.0}
# A memory of a size at which one percent is some bytes.
MEMORY = a_memory(peak_bytes=100_000, activations_bytes=10_000, optimizer_bytes=4096)


def run(method: str = "lora", **changes: Any) -> Run:
    return a_run(method, **{"train": TRAIN, "evals": EVALS, "memory": MEMORY, **changes})


def remembered(**changes: Any) -> Run:
    return run(memory=dataclasses.replace(MEMORY, **changes))


def parameters(**changes: Any) -> Parameters:
    return Parameters(tensors("lora", **changes))


def scaled(factor: float, **changes: Any) -> Run:
    """On a GPU, all losses times ``factor``."""
    losses = {step: loss * factor for step, loss in EVALS.items()}
    return run(environment=H200, train=tuple(loss * factor for loss in TRAIN), evals=losses, **changes)


def one_off(share: float) -> Run:
    """On a GPU, the last evaluation off by ``share``."""
    return run(environment=H200, evals={**EVALS, 100: EVALS[100] * (1 + share)})


def pair(gap: float = 0.25, **changes: Any) -> Pair:
    return a_pair({10: (gap, gap, gap)}, **changes)


def with_lora(**changes: Any) -> Pair:
    """A pair whose adapter's run is changed."""
    sound = pair()
    return dataclasses.replace(sound, loras=(dataclasses.replace(sound.lora, **changes), *sound.loras[1:]))


def with_static(more: int) -> Pair:
    memory = pair().lora.memory
    return with_lora(memory=dataclasses.replace(memory, optimizer_bytes=memory.optimizer_bytes + more))


def predicted_memory(**changes: Any) -> Prediction:
    return a_prediction(900, memory=dataclasses.replace(a_prediction(900).memory, **changes))


def slower_lora() -> Pair:
    sound = pair()
    slow = Timing((0.012,) * 10, 64.0)
    return dataclasses.replace(sound, loras=tuple(dataclasses.replace(run, time=slow) for run in sound.loras))


SOUND, ON_GPU, PAIR, PREDICTED = run(), run(environment=H200), pair(), a_prediction(900)
SLOW = (0.5,) * 5 + (0.0112,) * 5
NEXT = math.nextafter(EVALS[100], 3)

# What it is of -> before, then, and the tolerances without which it only warns.
Case = tuple[Any, Any, dict[str, str]]
REGRESSIONS: dict[str, Case] = {
    "lora/settings": (SOUND, dataclasses.replace(SOUND, batch_size=8), {}),
    "lora/batches": (SOUND, run(batches="others"), {}),
    "lora/parameters.total": (SOUND, run(parameters=parameters(lora_A={"shape": (2, 5)})), {}),
    "lora/parameters.trainable": (SOUND, run(parameters=parameters(lora_A={"trainable": False})), {}),
    "lora/parameters.names": (SOUND, run(parameters=parameters(lora_A={"name": "lora_a"})), {}),
    "lora/flops.forward": (SOUND, run(flops=Flops(1201, 1200)), {}),
    "lora/flops.backward": (SOUND, run(flops=Flops(1200, 1201)), {}),
    "lora/flops.optimizer": (SOUND, run(flops=Flops(1200, 1200, 1)), {}),
    "lora/memory.weights_bytes": (SOUND, remembered(weights_bytes=528 + 512), {}),
    "lora/memory.gradients_bytes": (SOUND, remembered(gradients_bytes=128 + 512), {}),
    "lora/memory.optimizer_bytes": (SOUND, remembered(optimizer_bytes=4096 + 512), {}),
    "lora/memory.activations_bytes": (SOUND, remembered(activations_bytes=10_101), {}),
    "lora/memory.peak_bytes": (SOUND, remembered(peak_bytes=101_001), {}),
    # One bit, in one step that has no line of its own in the file.
    "lora/loss.train": (SOUND, run(train=(*TRAIN[:70], math.nextafter(TRAIN[70], 9), *TRAIN[71:])), {}),
    "lora/loss.eval": (SOUND, run(evals={**EVALS, 100: NEXT}), {}),
    "lora/time.step_s": (SOUND, run(samples_s=SLOW), {"time.step_s": "10%"}),
    "lora/time.tokens_per_s": (SOUND, run(samples_s=(0.01112,) * 10), {"time.tokens_per_s": "10%"}),
    "full to lora/memory_ratio.static": (PAIR, with_static(1), {}),
    "full to lora/memory_ratio.peak": (PAIR, with_lora(memory=a_memory("lora", peak_bytes=1330)), {}),
    "full to lora/flops_ratio": (PAIR, with_lora(flops=Flops(1200, 1201)), {}),
    "full to lora/time_ratio": (PAIR, slower_lora(), {"time_ratio": "10%"}),
    "full to lora/loss_gap": (PAIR, pair(0.261), {}),
    "full to lora/loss_order": (PAIR, pair(-0.25), {}),
    "lora, seed 1/loss.eval": (PAIR, pair(0.25 + 1e-15), {}),
    "lora on pretended/predicted.peak_bytes": (PREDICTED, a_prediction(900, peak_bytes=901), {}),
    "lora on pretended/predicted.allocated_bytes": (PREDICTED, a_prediction(900, allocated_bytes=901), {}),
    "lora on pretended/predicted.reserved_bytes": (PREDICTED, a_prediction(900, reserved_bytes=901), {}),
    "lora on pretended/predicted.weights_bytes": (PREDICTED, a_prediction(900, weights=101), {}),
    "lora on pretended/predicted.activations_bytes": (PREDICTED, a_prediction(901), {}),
    "lora on pretended/predicted.gradients_bytes": (PREDICTED, predicted_memory(gradients_bytes=1), {}),
    "lora on pretended/predicted.optimizer_bytes": (PREDICTED, predicted_memory(optimizer_bytes=1), {}),
    "lora on pretended/predicted.flops_forward": (PREDICTED, a_prediction(900, flops=Flops(1001, 2000)), {}),
    "lora on pretended/predicted.flops_optimizer": (PREDICTED, a_prediction(900, flops=Flops(1000, 2000, 1)), {}),
    "lora on pretended/predicted.flops_backward": (PREDICTED, a_prediction(900, flops=Flops(1000, 2001)), {}),
}
# The same metrics on a GPU, where losses have a band.
ON_A_GPU: dict[str, Case] = {
    "lora/loss.eval": (ON_GPU, one_off(0.00201), {}),
    "lora/loss.train": (ON_GPU, scaled(0.99799), {}),
    "lora/memory.peak_bytes": (
        ON_GPU,
        run(environment=H200, memory=dataclasses.replace(MEMORY, peak_bytes=101_001)),
        {},
    ),
}
DRIFTS: dict[str, Callable[[], Run]] = {"up": lambda: scaled(1.0011), "down": lambda: scaled(0.9989)}
