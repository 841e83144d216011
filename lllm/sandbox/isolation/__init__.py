"""What keeps the code of a sandbox inside: the tiers, and how a kernel is started in each."""
