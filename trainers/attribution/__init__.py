"""Which documents of a run's windows moved the mode: scorers that need checkpoints."""
