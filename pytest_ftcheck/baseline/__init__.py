"""Recorded benchmarks: what a training cost and reached, committed beside the tests and held to."""
