"""Measure bits/dim of the test images: the same as `vdm evaluate`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("evaluate")
