"""The picture on the landing page: a trained model turns noise into digits.

    python -m docs_hooks.landing_figure runs/digits docs/pictures/noise_to_digits.png

Each row is an image and each column a step of the sampler: z_t, from pure noise to the data.
"""

import sys
from operator import attrgetter
from pathlib import Path

import jax
import numpy as np
from PIL import Image

import vdm
from vdm import samplers

STEPS = 250
COLUMNS = (0, 6, 13, 19, 26, 32, 38, 45, 57, 77, 115, 249)
"""Steps to show; most of the visible change happens early."""
ROWS = (18, 9, 16, 22)
"""Images to show, out of the first `SAMPLES` for seed 0."""
SAMPLES = 24
PIXEL, GAP = 12, 12
"""Side of an enlarged pixel, and the gap between images, in pixels of the picture."""


def frames(run: str) -> np.ndarray:
    """Return z_t of a run's samples: (columns, samples, height, width, 1)."""
    opened = vdm.open_run(run)
    model, variables = opened.model, opened.variables
    gammas = samplers.grid(lambda t: model.gamma(variables, t), STEPS)
    shape = (SAMPLES, *model.shape)
    denoise, sampler, key = model.denoiser(variables), samplers.ancestral(), jax.random.key(0)
    _, kept = samplers.sample_trajectory(key, denoise, sampler, gammas, shape, COLUMNS, keep=attrgetter("z"))
    return np.asarray(kept)


def picture(z: np.ndarray) -> Image.Image:
    """Arrange images (columns, rows, height, width, 1), with values around [−1, 1], on a transparent background."""
    grey = np.uint8(np.clip(127.5 * (z[..., 0] + 1), 0, 255)).repeat(PIXEL, axis=2).repeat(PIXEL, axis=3)
    shown = np.stack([grey, np.full_like(grey, 255)], axis=-1)
    shown = np.pad(shown, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)))
    columns, rows, height, width, _ = shown.shape
    table = shown.transpose(1, 2, 0, 3, 4).reshape(rows * height, columns * width, 2)
    return Image.fromarray(table[:-GAP, :-GAP], "LA")


if __name__ == "__main__":
    picture(frames(sys.argv[1])[:, ROWS]).save(Path(sys.argv[2]), optimize=True)
