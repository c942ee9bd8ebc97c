"""Draw images from a trained model: the same as `vdm sample`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("sample")
