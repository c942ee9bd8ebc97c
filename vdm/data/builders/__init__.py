"""Our own TFDS builders, for images that installed packages ship: one file each. Building them needs no network."""
