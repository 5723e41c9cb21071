"""A prediction, and a comparison of several, as text of at most 100 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator

from ..predict.comparison import Arm, Comparison
from ..predict.fit import LargestBatch, weights_exceed
from ..predict.prediction import Held, Prediction
from ..predict.switches import Switch
from .table import table
from .units import duration, operations, size

WIDTH = 100
# How many kinds of allocations are shown, and from which share of the peak on.
SHOWN, LEAST_SHARE = 10, 0.005
FOOTER = "not yet validated on a GPU; not modelled: FSDP, ZeRO, torch.compile, quantised weights"


def comparison_lines(comparison: Comparison) -> list[str]:
    """Everything that ``python -m pytest_ftcheck.predict`` says."""
    sections = [
        _header(comparison),
        _arm_table(comparison),
        list(_switch_lines(comparison)),
        held_lines(comparison.asked.prediction, comparison.asked.title),
        list(_notes(comparison)),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section).splitlines()


def prediction_lines(prediction: Prediction) -> list[str]:
    """One prediction: its figures, and what is held at its peak."""
    column = [prediction.method, *(cell(prediction) for _, cell in ROWS)]
    return [
        f"{prediction.recipe} on {prediction.gpu.name} ({size(prediction.gpu.memory_bytes)}): {prediction.declaration}",
        *table(["", *(name for name, _ in ROWS)], [column]),
        *held_lines(prediction, prediction.method),
        *(line for note in prediction.notes for line in _wrapped(f"note: {note}")),
    ]


def held_lines(prediction: Prediction, title: str) -> list[str]:
    """The largest kinds of allocations that are live at the peak, with the operation and the module that made them."""
    moment = next((moment for moment in prediction.moments if moment.phase == prediction.peak_phase), None)
    if moment is None:
        return []
    shown = [held for held in moment.held if held.bytes >= LEAST_SHARE * moment.bytes][:SHOWN]
    columns = [[size(held.bytes) for held in shown], [f"{held.count} x" for held in shown]]
    lines = table([held.category for held in shown], columns) if shown else []
    lines = [_with_origin(line, held) for line, held in zip(lines, shown, strict=True)]
    rest, more = moment.bytes - sum(held.bytes for held in shown), len(moment.held) - len(shown)
    lines += [f"  and {size(rest)} of {more} other kind{'s' if more > 1 else ''}"] if more else []
    return [f"held at the peak of {title} ({moment.phase}, {size(moment.bytes)}):", *lines]


def _with_origin(line: str, held: Held) -> str:
    """``... float32 _to_copy in model.layers.*.self_attn.q_proj``; of a long name the end is what tells."""
    made = "" if held.op == "outside" else f" {held.op.removeprefix('aten::')}"
    line = f"{line}  {held.dtype}{made}{' in ' if held.module else ''}"
    room = WIDTH - len(line)
    return line + (held.module if len(held.module) <= room else f"...{held.module[-max(room - 3, 0) :]}")


def _header(comparison: Comparison) -> list[str]:
    asked, settings = comparison.asked.prediction, comparison.settings
    rows = f"{asked.batch_size} x {settings.sequence_length} tokens"
    micro = f"{asked.accumulation} micro-batches of {rows}" if asked.accumulation > 1 else rows
    gpu = asked.gpu
    details = [asked.dtype, settings.optimizer, f"{settings.attention} attention"]
    details += [f"autocast to {settings.autocast}"] if settings.autocast else []
    details += ["adapters in the model's dtype"] if not settings.autocast_adapter_dtype else []
    details += ["padded"] if settings.padded else []
    declarations = dict.fromkeys(arm.prediction.declaration for arm in comparison.arms)
    return [
        f"{asked.recipe} on {gpu.name} ({size(gpu.memory_bytes)}): an update of {micro}",
        f"  {', '.join(details)}",
        *(line for declaration in declarations for line in _wrapped(f"  {declaration}")),
        _verdict(comparison.asked),
    ]


def _verdict(asked: Arm) -> str:
    prediction = asked.prediction
    if weights_exceed(prediction):
        return f"{asked.title} does not fit: its weights alone are {size(prediction.memory.weights_bytes)}"
    room = prediction.gpu.memory_bytes - prediction.device_bytes
    if prediction.fits:
        return f"{asked.title} fits, with {size(room)} left"
    return f"{asked.title} does not fit: it needs {size(-room)} more"


def _room(prediction: Prediction) -> str:
    room = prediction.gpu.memory_bytes - prediction.device_bytes
    return f"{'-' if room < 0 else ''}{size(abs(room))}"


def _rest(prediction: Prediction) -> str:
    return size(max(0, prediction.allocated_bytes - prediction.memory.at_peak.total))


ROWS: tuple[tuple[str, Callable[[Prediction], str]], ...] = (
    ("fits", lambda p: "yes" if p.fits else "NO"),
    ("room left", _room),
    ("with CUDA's context", lambda p: size(p.device_bytes)),
    ("reserved", lambda p: size(p.reserved_bytes)),
    ("allocated at the peak", lambda p: size(p.allocated_bytes)),
    ("  weights", lambda p: size(p.memory.at_peak.weights)),
    ("  gradients", lambda p: size(p.memory.at_peak.gradients)),
    ("  optimizer state", lambda p: size(p.memory.at_peak.optimizer)),
    ("  activations", lambda p: size(p.memory.at_peak.activations)),
    ("  temporaries", lambda p: size(p.memory.at_peak.temporaries)),
    ("  cuBLAS, rounding", _rest),
    ("the peak is in", lambda p: p.peak_phase),
    ("activations a token", lambda p: size(p.activations_per_token) if p.tokens else "-"),
    ("work of an update", lambda p: operations(p.flops.total)),
    ("takes at least", lambda p: duration(p.step_s or math.nan)),
)


def _arm_table(comparison: Comparison) -> list[str]:
    """A column for each arm; a star marks the one that was asked for."""
    names, cells = zip(*ROWS, strict=True)
    columns = [[cell(arm.prediction) for cell in cells] for arm in comparison.arms]
    if any(arm.largest_batch for arm in comparison.arms):
        names = ("largest batch", *names)
        columns = [[_batch(arm.largest_batch), *c] for arm, c in zip(comparison.arms, columns, strict=True)]
    heads = [f"{arm.title}{' *' if arm.asked else ''}" for arm in comparison.arms]
    lines = table(["", *names], [[head, *c] for head, c in zip(heads, columns, strict=True)])
    return [*lines, "  * as asked for; ckpt: with gradient checkpointing"]


def _batch(largest: LargestBatch | None) -> str:
    if largest is None:
        return "-"
    if largest.exact:
        return str(largest.fits)
    return f"{largest.fits} or more" if largest.exceeds is None else f"{largest.fits} to {largest.exceeds - 1}"


def _switch_lines(comparison: Comparison) -> Iterator[str]:
    if not comparison.switches:
        return
    asked = comparison.asked
    yield f"switches, each alone, from {asked.title} (allocated {size(asked.prediction.allocated_bytes)}):"
    switches = comparison.switches
    columns = [
        ["allocated", *(size(s.prediction.allocated_bytes) for s in switches)],
        ["change", *(_change(s) for s in switches)],
        ["fits", *("yes" if s.prediction.fits else "NO" for s in switches)],
        ["work", *(_relative(s.prediction.flops.total, asked.prediction.flops.total) for s in switches)],
        ["least time", *(_relative(s.prediction.step_s, asked.prediction.step_s) for s in switches)],
    ]
    head, *lines = table(["", *(s.title for s in switches)], columns)
    yield head
    for line, switch in zip(lines, switches, strict=True):
        yield line
        yield f"      {switch.why}"


def _change(switch: Switch) -> str:
    sign = "-" if switch.saved_bytes > 0 else "+"
    return f"{sign}{size(abs(switch.saved_bytes))}" if switch.saved_bytes else "none"


def _relative(value: float, asked: float) -> str:
    """``+33 %``; a dash where nothing is known."""
    if not (value > 0 and asked > 0):
        return "-"
    percent = 100 * (value / asked - 1)
    return f"{percent:+.1f} %" if round(percent, 1) else "same"


def _notes(comparison: Comparison) -> Iterator[str]:
    notes = [*comparison.problems, *(note for arm in comparison.arms for note in arm.prediction.notes)]
    count = comparison.predictions
    lines = [
        *(f"note: {note}" for note in dict.fromkeys(notes)),
        f"{count} prediction{'s' if count > 1 else ''} in {duration(comparison.took_s)}",
        ", ".join(f"{name} {version}" for name, version in comparison.asked.prediction.versions.items()),
        FOOTER,
    ]
    for line in lines:
        yield from _wrapped(line)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
