"""One launch of torch elastic, and the life of each rank that it starts."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import time
import traceback
import uuid
from typing import TYPE_CHECKING, NoReturn

from ..errors import FtcheckError, TrainingError
from ..failures import one_line
from ..predict.exchange import Exchange
from ..predict.parcel import packed, unpacked
from ..predict.worker import PR_SET_PDEATHSIG, redirect_output
from .endings import failed
from .launch import Order
from .world import World

if TYPE_CHECKING:
    from .launch import Launch, Phase

# How often torch elastic looks at its ranks.
POLL_S = 0.05
# A rank that raised waits for so long before it ends: the one that died, and made it raise, is then found first.
COURTESY_S = 4 * POLL_S
# Trainings of several processes need them, or optimizers do at their first step.
IMPORTS = ("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.distributed.launcher.api")
# So long before the end every rank says where it is.
NOTICE_S = 0.5


def import_what_ranks_import(launch: Launch) -> None:
    """Import here, once in a session, what takes each fork of this process seconds; by building the model, too, which
    the ranks do again. That it fails is theirs to say.
    """
    from ..building import adapted_model
    from ..isolation import preserved_settings

    for name in IMPORTS:
        importlib.import_module(name)
    with contextlib.suppress(Exception), preserved_settings(launch.recipe.threads):
        adapted_model(launch.recipe, launch.method, launch.seed)


def carry_out(launch: Launch, phase: Phase) -> None:
    """Start the ranks of ``phase`` and wait for them. Raises TrainingError where one did not end well."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for folder in launch.ranks(phase):
        folder.mkdir(parents=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=phase.processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=POLL_S,
        # A fork has everything; a fresh interpreter is sent the parcel.
        start_method="fork" if launch.forks else "spawn",
    )
    index = launch.phases.index(phase)
    codes: dict[int, int] = {}
    try:
        elastic_launch(config, _main)(launch if launch.forks else packed(launch), index)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    text = failed(launch.method, launch.ranks(phase), codes)
    if text:
        raise TrainingError(text)


def _main(parcel: Launch | bytes, index: int) -> None:
    """What torch elastic calls in each rank."""
    launch: Launch = unpacked(parcel) if isinstance(parcel, bytes) else parcel
    phase, rank = launch.phases[index], int(os.environ["RANK"])
    folder = launch.ranks(phase)[rank]
    exchange = Exchange(folder)
    _live_in_the_group()
    redirect_output(exchange)
    notice = exchange.fault.open("a")
    faulthandler.dump_traceback_later(max(0.1, launch.ends_at - time.time() - NOTICE_S), file=notice)
    exchange.journal.note("its start")
    serve(launch, phase, rank, exchange)


def serve(launch: Launch, phase: Phase, rank: int, exchange: Exchange) -> None:
    """Do the rank's task, and say how it ended."""
    device = launch.device if not launch.device.startswith("cuda") else f"cuda:{os.environ['LOCAL_RANK']}"
    world = World(rank, phase.processes, launch.limit_s)
    order = Order(
        phase.recipe,
        launch.method,
        launch.seed,
        phase.steps,
        device,
        world,
        exchange.folder,
        exchange.folder.parent,
        exchange.journal,
    )
    try:
        phase.task(order)
    except BaseException as error:
        _print_traceback(error)
        kind = TrainingError if isinstance(error, FtcheckError) else type(error)
        exchange.refuse(TrainingError.__name__, str(error) if kind is TrainingError else one_line(error))
        _end_after_an_error()
    exchange.answer("")
    _leave_the_group()
    faulthandler.cancel_dump_traceback_later()


def _print_traceback(error: BaseException) -> None:
    """Of what the user's code raised; an error of ours says itself what there is to know."""
    raised = error.__cause__ or (None if isinstance(error, FtcheckError) else error)
    if raised is not None:
        traceback.print_exception(raised)


def _live_in_the_group() -> None:
    """End with the process that started this one, and at once when torch elastic ends it: its handler in Python, which
    a fork inherits, would wait for a collective to return.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_after_an_error() -> NoReturn:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    time.sleep(COURTESY_S)
    # Without what is registered for the exit: a process group may wait there for a rank that is gone.
    os._exit(1)


def _leave_the_group() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
