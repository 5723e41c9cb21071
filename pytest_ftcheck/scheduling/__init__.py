"""Which worker of pytest-xdist runs which test: what belongs together stays together, and the largest begins first."""
