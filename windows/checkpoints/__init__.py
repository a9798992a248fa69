"""Checkpoints of a run: where they lie, which there are, and whether they are what they claim."""
