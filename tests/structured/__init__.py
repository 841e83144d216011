"""Structured replies of real models over random schemas."""
