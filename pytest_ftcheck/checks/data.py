"""Checks of which rows are seen, how often, and in which order."""

from __future__ import annotations
