"""What was measured in every session, kept in the form of pytest-benchmark's storage, and how it went over commits."""
