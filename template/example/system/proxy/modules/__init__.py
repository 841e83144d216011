"""One module per API: each BaseProxy subclass in a module here is registered by its path."""
