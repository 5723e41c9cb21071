"""The layers that LoRA is put on, as linear maps that are worked out in float64."""
