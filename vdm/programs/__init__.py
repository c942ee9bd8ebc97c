"""What the commands of `vdm` do: train, evaluate, sample, edit, restore, compress, compare, report and others."""
