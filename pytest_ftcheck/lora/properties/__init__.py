"""The properties, one file a theme."""
