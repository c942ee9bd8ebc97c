"""What a run is on disk: its folder and lock, its records, its checkpoints, shards of images, and opening it again."""
