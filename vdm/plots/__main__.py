"""`python -m vdm.plots` is the same as `vdm plots`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("plots")
