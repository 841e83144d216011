"""Selection without gradients: the best of several rollouts, and the best of several prompts."""
