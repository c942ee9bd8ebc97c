"""Draw images from a trained model: the same as `vdm sample`."""

from vdm.programs.commands.sample import main

if __name__ == "__main__":
    main()
