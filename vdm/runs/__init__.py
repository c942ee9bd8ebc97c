"""A run on disk: its folder and lock, records, checkpoints and shards of images, and how to open it again."""
