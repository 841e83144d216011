"""An environment in processes of its own: its hooks and tools run there, and can be killed."""
