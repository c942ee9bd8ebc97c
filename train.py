"""Train a variational diffusion model: the same as `vdm train`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("train")
