"""Checks that a resumed training goes on where it was, and that its checkpoints are there."""

from __future__ import annotations
