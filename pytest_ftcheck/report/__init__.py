"""Printing what was found; nothing is decided here."""
