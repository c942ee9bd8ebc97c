"""Train a variational diffusion model: the same as `vdm train`."""

from vdm.programs.commands.train import main

if __name__ == "__main__":
    main()
