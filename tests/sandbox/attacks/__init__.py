"""Attacks on the sandbox, run for real: in a world of their own, see world.py."""
