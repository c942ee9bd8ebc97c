"""`python -m vdm.export`: the same as `vdm export`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("export")
