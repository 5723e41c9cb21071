"""The command line of ``python -m pytest_ftcheck.predict``."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable
from typing import NoReturn

from ..methods import Full, LoRA
from ..recipe import DTYPES
from ..sizes import bytes_of
from .gpu import GPUS, Gpu
from .limits import Limits
from .switches import half_precision
from .workload import ATTENTION, AUTOCAST, OPTIMIZERS, Workload

PROGRAM = "python -m pytest_ftcheck.predict"
USAGE = 2
# Tokens of a row where nothing else is said, if the model takes so many.
SEQUENCE_LENGTH = 2048
DESCRIPTION = """\
Will it fit? The memory and the floating-point operations of one update of a fine-tuning, predicted without a GPU and
without weights: in full and with LoRA, each with and without gradient checkpointing; the largest batch that fits; and
what each switch buys. The update is a plain PyTorch loop's over the model of a config.json."""
EPILOG = """\
Some twenty predictions are made, one after the other: each takes about 3 s for GPT-2, 10 s for 8B parameters, 20 to
40 s for 70B, whatever the batch. With --no-batch-search and --no-switches there are four. Not modelled: training that
is sharded over GPUs (FSDP, ZeRO), torch.compile, quantised weights (bitsandbytes). Not yet validated on a GPU."""


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of a command line, by default this process's. Exits with status 2, and a line that names the option,
    its value and what is allowed, where one cannot be.
    """
    parser = _Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--model", required=True, metavar="PATH", help="a config.json, or the folder that has it")
    _add_method(parser)
    _add_update(parser)
    _add_output(parser)
    return parser.parse_args(arguments)


def methods_of(options: argparse.Namespace) -> tuple[Full, LoRA]:
    """Full fine-tuning, and the adapter that the options describe."""
    targets = options.target_modules
    lora = LoRA(
        r=options.rank,
        alpha=options.alpha,
        target_modules=targets if targets == "all-linear" else targets.split(","),
        dropout=options.lora_dropout,
        use_dora=options.dora,
    )
    return Full(), lora


def gpu_of(options: argparse.Namespace) -> Gpu:
    """The GPU that the options describe."""
    gpu = GPUS[options.gpu]
    return dataclasses.replace(gpu, memory_bytes=options.gpu_memory) if options.gpu_memory else gpu


def workload_of(options: argparse.Namespace, positions: int | None) -> Workload:
    """What is asked for, of a model with so many ``positions`` (None where it has no limit)."""
    full, lora = methods_of(options)
    return Workload(
        model=options.model,
        method=lora if options.method == "lora" else full,
        batch_size=options.batch_size,
        sequence_length=options.sequence_length or min(SEQUENCE_LENGTH, positions or SEQUENCE_LENGTH),
        dtype=options.dtype or half_precision(gpu_of(options)),
        optimizer=options.optimizer,
        gradient_checkpointing=options.gradient_checkpointing,
        accumulation=options.accumulation,
        attention=options.attention,
        autocast=None if options.autocast == "none" else options.autocast,
        padded=options.padded,
        autocast_adapter_dtype=options.autocast_adapter_dtype,
    )


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; argparse would put its usage in front."""

    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: {message}", file=sys.stderr)
        raise SystemExit(USAGE)


def _add_method(parser: _Parser) -> None:
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method", choices=("full", "lora"), default="lora", help="what switches start from; default: lora"
    )
    group.add_argument("--rank", type=_count, default=16, help="default: 16")
    group.add_argument("--alpha", type=_positive, default=float(LoRA.alpha), help=f"default: {LoRA.alpha}")
    group.add_argument("--target-modules", default="all-linear", metavar="NAMES", help="q_proj,v_proj (all-linear)")
    group.add_argument("--lora-dropout", type=_share, default=0.0, metavar="SHARE", help="default: 0")
    group.add_argument("--dora", action="store_true", help="DoRA in place of LoRA")
    peft = "PEFT's own default: adapters in float32 under a model in half precision"
    kind = argparse.BooleanOptionalAction
    group.add_argument("--autocast-adapter-dtype", action=kind, default=True, help=peft)


def _add_update(parser: _Parser) -> None:
    group = parser.add_argument_group("update")
    group.add_argument("--batch-size", type=_count, default=1, metavar="ROWS", help="of a micro-batch; default: 1")
    length = f"of a row; default: {SEQUENCE_LENGTH}, or as many as the model has positions"
    group.add_argument("--sequence-length", type=_count, metavar="TOKENS", help=length)
    group.add_argument("--padded", action="store_true", help="rows have padding, and so an attention mask")
    group.add_argument("--accumulation", type=_count, default=1, metavar="COUNT", help="micro-batches of an update")
    group.add_argument("--dtype", choices=DTYPES, help="of the weights; default: bfloat16, where the GPU has it")
    group.add_argument("--autocast", choices=[str(name).lower() for name in AUTOCAST], default="none")
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw-foreach", help="default: adamw-foreach")
    group.add_argument("--attention", choices=ATTENTION, default="sdpa", help="default: sdpa")
    group.add_argument("--gradient-checkpointing", action="store_true", help="what switches start from")


def _add_output(parser: _Parser) -> None:
    group = parser.add_argument_group("prediction")
    group.add_argument("--gpu", choices=GPUS, default="h100", help="default: h100")
    group.add_argument("--gpu-memory", type=_size, metavar="SIZE", help="40GB, 16GiB; default: what the GPU has")
    group.add_argument("--no-batch-search", action="store_true", help="do not look for the largest batch")
    group.add_argument("--no-switches", action="store_true", help="do not try switches")
    group.add_argument(
        "--time-limit", type=_positive, default=Limits.time_s, metavar="SECONDS", help="of one prediction"
    )
    group.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")


def _count(text: str) -> int:
    return int(_number(text, "a whole number of at least 1", lambda value: value >= 1 and value == int(value)))


def _positive(text: str) -> float:
    return _number(text, "a number above 0", lambda value: value > 0)


def _share(text: str) -> float:
    return _number(text, "a number from 0 up to, not including, 1", lambda value: 0 <= value < 1)


def _number(text: str, allowed: str, is_allowed: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and is_allowed(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
    return value


def _size(text: str) -> int:
    size = bytes_of(text)
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 40GB or 16GiB")
    return size
