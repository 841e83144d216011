"""Its agents, and what they are told."""
