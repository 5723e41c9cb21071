"""Memory and floating-point operations of a training step, predicted with no GPU and no weights.

The real model code, PEFT configuration and optimizer run two updates on a *fake* GPU: tensors have a shape, a dtype and
a lifetime, and no contents. The lifetimes, replayed through a model of CUDA's caching allocator, are the prediction.
"""

from __future__ import annotations

from .gpu import GPUS, Gpu
from .prediction import Prediction
from .predictor import predict_recipe, predict_training

__all__ = ["GPUS", "Gpu", "Prediction", "predict_recipe", "predict_training"]
