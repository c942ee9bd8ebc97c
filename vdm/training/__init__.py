"""Training: state, objective, step, checkpoints and the loop."""
