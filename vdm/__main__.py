"""`python -m vdm`: the command `vdm`."""

from vdm.programs.main import main

if __name__ == "__main__":
    main()
