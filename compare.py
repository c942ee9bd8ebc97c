"""Compare models, or samplers on one: the same as `vdm compare`."""

from vdm.programs.main import run

if __name__ == "__main__":
    run("compare")
