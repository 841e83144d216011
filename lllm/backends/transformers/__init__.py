"""Hugging Face models in this process, on torch."""

from lllm.backends.transformers.backend import TransformersBackend as TransformersBackend
