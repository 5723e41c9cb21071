"""Trainings of which one rank does not end well."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch.distributed as dist

from pytest_ftcheck import Job
from pytest_ftcheck.training import train


def killed(job: Job) -> None:
    print(f"rank {job.rank} is here")
    if job.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    train(job)


def raising(job: Job) -> None:
    if job.rank == 1:
        raise ValueError("no such shard")
    train(job)


def exiting(job: Job) -> None:
    if job.rank == 1:
        sys.exit(3)
    train(job)


def leaving(job: Job) -> None:
    """Ends in the middle as if all were well."""
    if job.rank == 1:
        os._exit(0)
    train(job)


def waiting(job: Job) -> None:
    """A collective that one rank does not call, since it is elsewhere for ever."""
    print(f"rank {job.rank} is here")
    if job.rank == 1:
        time.sleep(1000)
    dist.barrier()


def starting_others(job: Job) -> None:
    """A process of the user's own in each rank, which does not end by itself."""
    import subprocess

    subprocess.Popen(["sleep", "987"])
    waiting(job)
