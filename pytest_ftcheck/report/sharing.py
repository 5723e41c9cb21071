"""Which runs each worker trained for itself, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence


def unshared_line(records: Sequence[str]) -> str:
    """``2 runs are not shared between workers and sessions; what cannot be told: train_data, the content of a ...``.

    ``records`` are titles of runs and what is unknown of them, as lists in JSON; several workers may tell of one run.
    """
    told = [json.loads(record) for record in records]
    runs = dict.fromkeys(title for title, _ in told)
    reasons = dict.fromkeys(why for _, why in told)
    what = "1 run is" if len(runs) == 1 else f"{len(runs)} runs are"
    return f"{what} not shared between workers and sessions; what cannot be told: {'; '.join(reasons)}"
