"""Checks that a training learns."""

from __future__ import annotations
