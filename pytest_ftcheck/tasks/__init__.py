"""Embedded tasks: small, offline, and with something about them known exactly."""

from __future__ import annotations

from .planted import GENERAL, NARROW, PlantedTask, planted_recipe

__all__ = ["GENERAL", "NARROW", "PlantedTask", "planted_recipe"]
