"""Train a classifier on a run's noisy images, p(c|z, γ): to guide its sampler, and to judge its samples.

vdm classifier --run=runs/digits
vdm classifier --run=runs/digits --config.training.steps=500 --workdir=runs/small_classifier

Images and noise are the run's. The same command goes on where it was stopped or killed, to the bit.
"""

from vdm.classifier import ClassifierConfig
from vdm.programs.commands import on_noise


def main() -> int:
    """The command: see `on_noise.main`."""
    return on_noise.main("classifier", ClassifierConfig, __doc__)
