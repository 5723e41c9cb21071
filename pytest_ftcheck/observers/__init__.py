"""Watching a training that somebody else's code runs."""

from __future__ import annotations

from .observation import Observation, observe

__all__ = ["Observation", "observe"]
