from pretended_gpus import machine

__all__ = ["machine"]
