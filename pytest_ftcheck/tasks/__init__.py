"""Embedded tasks: small, offline, and with something about them known exactly."""

from __future__ import annotations

from .planted import GENERAL, NARROW, PlantedTask, planted_recipe
from .pretrained import PretrainedText, text_recipe
from .text import ByteTokenizer, TextTask

__all__ = [
    "GENERAL",
    "NARROW",
    "ByteTokenizer",
    "PlantedTask",
    "PretrainedText",
    "TextTask",
    "planted_recipe",
    "text_recipe",
]
