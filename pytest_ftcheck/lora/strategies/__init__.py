"""Strategies for hypothesis. Numbers inside tensors come from a drawn seed, so that drawing takes no time and what
fails shrinks to the smallest layer.
"""
