"""Checks of the learning rate over the updates."""

from __future__ import annotations
