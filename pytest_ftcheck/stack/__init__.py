"""The stack audit: the catalogue, and probes of its own, on a built-in variety against the *installed* libraries.

A dependency bump of transformers, peft, accelerate, trl or torch is judged by it before it is merged. Variety decides:
one default Llama with LoRA on q and v shows 8 of 46 known library bugs.
"""

from __future__ import annotations

from .subject import Subject, subjects

__all__ = ["Subject", "subjects"]
