"""Checks of training and evaluation mode."""

from __future__ import annotations
