"""`python -m vdm.plots`: the same as `vdm plots`."""

from vdm.programs.commands.plots import main

if __name__ == "__main__":
    main()
