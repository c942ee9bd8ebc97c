"""`python -m vdm.verify`: the same as `vdm verify`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("verify")
