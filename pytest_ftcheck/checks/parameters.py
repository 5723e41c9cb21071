"""Checks of which parameters train, and that nothing else changes."""

from __future__ import annotations
