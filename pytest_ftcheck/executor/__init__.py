"""What carries out runs: this process, or the nodes of a Ray cluster, to which one process of the session submits."""
