"""Measure bits/dim of the test images: the same as `vdm evaluate`."""

from vdm.programs.commands.evaluate import main

if __name__ == "__main__":
    main()
