"""The probes of the stack audit, one file a subject."""
