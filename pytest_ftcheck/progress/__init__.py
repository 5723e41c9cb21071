"""What long trainings show of themselves while they run."""
