"""Compare models, or samplers on one: the same as `vdm compare`."""

from vdm.programs.commands.compare import main

if __name__ == "__main__":
    main()
