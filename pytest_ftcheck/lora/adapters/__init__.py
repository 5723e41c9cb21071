"""Implementations of LoRA that the properties know by themselves."""
