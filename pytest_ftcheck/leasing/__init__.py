"""Which GPU a worker owns: what there is, what of it is free, and who gets it. Nothing here imports torch."""
