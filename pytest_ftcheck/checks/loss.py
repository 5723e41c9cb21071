"""Checks of the loss: what it means, and by how much each token counts."""

from __future__ import annotations
