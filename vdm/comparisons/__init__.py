"""The comparisons that `vdm compare` makes: one subpackage per mode (see `modes.MODES`)."""
