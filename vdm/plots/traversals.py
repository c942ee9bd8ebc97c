"""Latent traversals of a model with learned latents, above interpolations between the z₁ of a diffusion model.

Fig. 9 of Wang (2024) compares DDIM with a VAE in this way. A VAE has few latents, some of which may have a meaning;
DDIM has as many as there are pixels, so only interpolations between images show what they do.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num, PRNGKeyArray

from vdm.evaluation.holes import posteriors
from vdm.model import Variables
from vdm.plots import images as pictures
from vdm.predecessors.latent import LatentModel

Frames = Float[np.ndarray, "frames rows height width channels"]

REACH = 2.5
"""Latents are varied from −REACH to REACH, in standard deviations of the prior."""


def along(
    model: LatentModel, variables: Variables, image: Num[np.ndarray, "1 *data"], latents: Sequence[int], num_frames: int
) -> Frames:
    """Decode images, in [−1, 1], while one latent of z_T at a time is varied from −`REACH` to `REACH`.

    The other latents of z_T stay at the posterior mean for the given image, and all layers below are at their prior
    mean. Every image is the center of p(x|z).
    """
    none = [jnp.zeros((1, *shape)) for shape in model.latent_shapes]
    own = model.posterior(variables, jnp.asarray(image), none).mean
    values = jnp.linspace(-REACH, REACH, num_frames)
    rows = len(latents)
    # Frame f of row k keeps all latents of the image except number latents[k].
    at = jnp.arange(rows)
    flat = jnp.broadcast_to(own.reshape(1, 1, -1), (num_frames, rows, own.size))
    flat = flat.at[:, at, jnp.asarray(latents)].set(jnp.broadcast_to(values[:, None], (num_frames, rows)))
    eps = [jnp.zeros((num_frames * rows, *shape)) for shape in model.latent_shapes]
    observed = jax.jit(model.generate)(variables, eps, flat.reshape(-1, *model.latent_shapes[-1]))
    return np.asarray(observed.center.reshape(num_frames, rows, *model.shape))


def most_active(
    model: LatentModel, variables: Variables, images: Num[np.ndarray, "num *data"], key: PRNGKeyArray, num: int
) -> list[int]:
    """Return the (at most `num`) latents of z_T whose posterior means vary most between images, most active first.

    Burda et al. (2016) use this variance to tell active units from inactive ones.
    """
    mean = np.asarray(posteriors(model, variables, images, key).mean).reshape(len(images), -1)
    return [int(k) for k in np.argsort(-mean.var(axis=0), kind="stable")[:num]]


def traversals(
    path: Path,
    of_latents: Frames,
    names: Sequence[str],
    between: Float[np.ndarray, "frames pairs height width channels"] | None = None,
    caption: str = "",
) -> None:
    """Write one named row per latent and, below them, one row per pair of a diffusion model's images.

    Values are in [−1, 1]. Raises ValueError unless both arrays have equally many frames of the same shape.
    """
    rows = list(names)
    frames = of_latents
    if between is not None:
        if (between.shape[0], *between.shape[2:]) != (frames.shape[0], *frames.shape[2:]):
            raise ValueError(f"between has shape {between.shape}: must be as {frames.shape}, but for the rows")
        frames = np.concatenate([frames, between], axis=1)
        rows += [f"DDIM, pair {k + 1}" for k in range(between.shape[1])]
    pictures.strip(frames, path, caption, rows=rows)
