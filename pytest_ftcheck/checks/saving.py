"""Checks that what was trained is what is saved, and what is saved is what is loaded."""

from __future__ import annotations
