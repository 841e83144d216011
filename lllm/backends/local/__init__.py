"""What the backends that hold a model in this process have in common."""
