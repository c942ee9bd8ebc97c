"""Train a classifier on a run's noisy images, p(c|z, γ), to guide its sampler and to judge its samples.

vdm classifier --run=runs/digits
vdm classifier --run=runs/digits --config.training.steps=500 --workdir=runs/small_classifier

The classifier sees the run's images and noise levels. If training was stopped or killed, the same command resumes it,
bit for bit.
"""

from vdm.classifier import ClassifierConfig
from vdm.programs.commands import on_noise


def main() -> int:
    """Run the command: see `on_noise.main`."""
    return on_noise.main("classifier", ClassifierConfig, __doc__)
