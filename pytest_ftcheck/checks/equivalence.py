"""Checks that two ways to the same update lead to the same update."""

from __future__ import annotations
