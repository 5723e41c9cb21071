"""What pytest-benchmark saves of a session: one object for each metric, under keys that its own commands read.

The form is that of its releases 3.2 to 5.3 (a test compares the keys with those of the release that is installed).
"""

from __future__ import annotations

import datetime
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..baseline.fingerprint import CPU, Fingerprint
from .head import Head
from .measurement import Measurement

# Of pytest-benchmark, whose form it is. Readers of a file go by the keys.
FORM = "5.3.1"
# How far from the quartiles a value may be before it counts as an outlier, in their distances (Tukey).
FENCE = 1.5


def saved_session(found: Sequence[Measurement], head: Head, now: datetime.datetime) -> dict[str, Any]:
    """The data of a file: measurements of one environment, of the commit ``head``, made at ``now`` (UTC)."""
    return {
        "machine_info": _machine(found[0].fingerprint),
        "commit_info": head.to_data(),
        "benchmarks": [saved_metric(one) for one in found],
        "datetime": now.isoformat(),
        "version": FORM,
    }


def saved_metric(one: Measurement) -> dict[str, Any]:
    """The data of one metric."""
    values = recorded_values(one)
    return {**described(one), "options": {}, "stats": {**_statistics(values), "data": list(values), "iterations": 1}}


def described(one: Measurement) -> dict[str, Any]:
    """What a metric is called, and what pytest-benchmark has no key for."""
    name = f"{one.test.rpartition('::')[2]}#{one.metric}"
    extra = {
        "metric": one.metric,
        "unit": one.unit,
        "direction": one.direction,
        "inverted": one.is_inverted,
        "environment": one.fingerprint.environment_class,
    }
    return {
        "group": f"1 / {one.kind}" if one.is_inverted else one.kind,
        "name": name,
        "fullname": f"{one.test}#{one.metric}",
        "params": None,
        "param": None,
        "extra_info": extra,
    }


def recorded_values(one: Measurement) -> tuple[float, ...]:
    """The values as they are recorded: those of which more is better, inverted."""
    return tuple(1 / value for value in one.values) if one.is_inverted else one.values


def gpu_of(fingerprint: Fingerprint) -> dict[str, str]:
    """What is said of a GPU; nothing where there is none."""
    if fingerprint.device == CPU:
        return {}
    driver = fingerprint.versions.get("driver")
    return {"name": fingerprint.name} | ({"driver": driver} if driver else {})


def _machine(fingerprint: Fingerprint) -> dict[str, Any]:
    """No host, as in baselines."""
    gpu = gpu_of(fingerprint)
    return {
        "machine": platform.machine(),
        "processor": fingerprint.name if fingerprint.device == CPU else platform.processor(),
        "system": platform.system(),
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "versions": fingerprint.versions,
        "threads": fingerprint.threads,
        **({"gpu": gpu} if gpu else {}),
    }


def machine_id() -> str:
    """The folder in which pytest-benchmark looks for runs of this interpreter: ``"Linux-CPython-3.11-64bit"``."""
    version = ".".join(platform.python_version_tuple()[:2])
    bits = "64bit" if sys.maxsize > 2**32 else "32bit"
    return f"{platform.system()}-{platform.python_implementation()}-{version}-{bits}"


def _statistics(values: Sequence[float]) -> Mapping[str, float | str]:
    ordered, mean = sorted(values), statistics.fmean(values)
    q1, median, q3 = _quartiles(ordered)
    spread, sd = q3 - q1, statistics.stdev(values) if len(values) > 1 else 0.0
    within = [value for value in ordered if q1 - FENCE * spread <= value <= q3 + FENCE * spread]
    far, beyond = sum(abs(value - mean) > sd for value in values), len(values) - len(within)
    total = sum(values)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": sd,
        "rounds": len(values),
        "median": median,
        "iqr": spread,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond,
        "stddev_outliers": far,
        "outliers": f"{far};{beyond}",
        "ld15iqr": within[0],
        "hd15iqr": within[-1],
        "ops": len(values) / total if total else 0,
        "total": total,
    }


def _quartiles(ordered: Sequence[float]) -> list[float]:
    return statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
