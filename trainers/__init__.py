"""What training on the data does: plans, the loop, shuffled replay, arms, stabilization."""
