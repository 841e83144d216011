"""Tools: Python callables as functions for a model, and types as reply formats."""
