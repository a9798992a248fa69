"""What a pre-training run read, and when: order, token files, checkpoints, the artefact store."""
