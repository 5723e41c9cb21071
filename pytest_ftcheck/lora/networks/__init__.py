"""Models that are made of layers, as the properties need them: tiny, and worked out in float64."""
