"""Going on with a run whose process was interrupted, from the last checkpoint that its loop wrote."""
