"""Checks of an adapter's arithmetic: identity, scaling, merging, switching."""

from __future__ import annotations
