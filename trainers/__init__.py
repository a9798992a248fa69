"""What training on the data does: plans, the training loop, shuffled replay, arms, stabilization."""
