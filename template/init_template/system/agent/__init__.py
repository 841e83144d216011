"""Its agent, and what that is told."""
