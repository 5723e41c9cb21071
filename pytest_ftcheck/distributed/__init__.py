"""Trainings of several processes: torch elastic starts the ranks, each is observed, and what they show is compared."""
