"""The APIs that it may use."""
