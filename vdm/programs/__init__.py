"""What the commands of `vdm` do: train a model, and evaluate, sample, edit, compress, compare and report trained runs."""
