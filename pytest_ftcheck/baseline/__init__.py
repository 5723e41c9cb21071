"""Recorded baselines, and the gates that hold a run to them."""
