"""The training arguments of a job, for ``Trainer`` and for TRL's trainers, in any release."""

from __future__ import annotations

import inspect
from typing import Any

from pytest_ftcheck import Job


def arguments_of(kind: Any, job: Job, **changes: Any) -> Any:
    """What every training here has in common, and ``changes``, as a ``kind``; options that a release does not have are
    left out.
    """
    known = inspect.signature(kind.__init__).parameters
    settings = dict(
        output_dir=str(job.output_dir),
        max_steps=job.steps,
        learning_rate=job.lr,
        per_device_train_batch_size=job.batch_size,
        gradient_accumulation_steps=job.accumulation,
        seed=job.seed,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        **({"use_cpu": True} if "use_cpu" in known else {"no_cuda": True}),
    )
    return kind(**{name: value for name, value in {**settings, **changes}.items() if name in known})
