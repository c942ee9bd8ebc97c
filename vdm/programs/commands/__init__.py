"""The commands of `vdm`, one per file: their flags, and what they call."""
