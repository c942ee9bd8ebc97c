"""The programs that take a config, one a file: their flags, and what they call."""
