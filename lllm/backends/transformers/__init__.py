"""Hugging Face models in this process, on torch."""
