"""Checks of what the optimizer holds, is given, and does."""

from __future__ import annotations
