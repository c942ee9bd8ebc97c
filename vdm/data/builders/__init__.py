"""TFDS builders for images that installed packages ship, one file each. They need no network."""
