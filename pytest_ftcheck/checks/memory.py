"""Checks of what a step holds in memory."""

from __future__ import annotations
