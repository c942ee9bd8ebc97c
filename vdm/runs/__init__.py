"""What a run on disk is: its folder, checkpoints and records."""
