"""The catalogue: one check for each known way to train wrongly, one file a theme, each with its negative control."""
