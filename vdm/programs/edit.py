"""`vdm edit`: fill in given images, redraw them from a noise level on, or lead them to another label."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from vdm import operators, parts, samplers
from vdm.data import pictures
from vdm.errors import InputError
from vdm.evaluation.edited import Way, inverted, noised, restored
from vdm.evaluation.images import ModelSampling
from vdm.evaluation.latents import to_frames
from vdm.files import printable
from vdm.programs.editing import Editing, Images, digest_of, made
from vdm.programs.restore import check
from vdm.restorations import Restoration

SHOWN = 6
"""Number of draws at most that a picture shows of each image."""
OWN = "--invert needs those of each image, from an npz file (label) or from folders named by class"
"""What to do about images without conditions."""
WHITE = 128
"""Least gray value of a mask's pixels that are filled in."""


def inpaint(editing: Editing, images: Images, mask: Path, method: str, resize: bool = False) -> Path:
    """Fill in the white part of a mask in each image, leaving the rest as it is; return the stem of the files written.

    Raises `InputError` for a mask of another size, unless `resize` is set, and for one without black or without white.
    """
    shape = tuple(editing.run.model.shape)
    known = read_mask(mask, shape, resize)
    restoration: Restoration = made("method", "restoration", method)
    operator = operators.mask(jnp.asarray(known))
    check(restoration, operator, method)
    x = editing.encoded(images)
    y = np.where(known, x, 0)
    drawn, seconds = editing.draw(restored(restoration, operator, 0.0), {"y": y}, editing.conditions(images))
    # Known pixels are kept exactly.
    drawn = np.where(known, images.images[:, None], drawn)
    words = {"method": parts.canonical("restoration", method), "mask": digest_of(known)}
    return _write(editing, images, drawn, seconds, words, {"known": y}, {"known": known})


def change(editing: Editing, images: Images, strength: float) -> Path:
    """SDEdit: noise each image to t = `strength` and redraw it from there; return the stem of the files written."""
    _check_strength(strength)
    way, condition = noised(strength), editing.conditions(images)
    drawn, seconds = editing.draw(way, {"x": editing.encoded(images)}, condition)
    return _write(editing, images, drawn, seconds, {"strength": f"{strength:g}"})


def lead(editing: Editing, images: Images, strength: float) -> Path:
    """Invert each image by DDIM up to t = `strength` with its own label, and sample back down with the new label.

    Returns the stem of the files written. Raises `InputError` for a stochastic sampler, which would lose the image.
    """
    _check_strength(strength)
    run, settings = editing.run, editing.settings
    if not samplers.is_deterministic(parts.make("sampler", settings.sampler), jnp.linspace(2.0, -2.0, 3)):
        raise InputError(
            f"--sampler={settings.sampler}: draws noise at every step, which would lose the image; must be "
            "deterministic with --invert: ddim, euler, heun, dpm_solver_pp, unipc"
        )
    if editing.draws != 1:
        raise InputError(f"--draws={editing.draws}: --invert has no randomness; must be 1")
    plain = ModelSampling(run.model, run.mesh, replace(settings, guidance="none", clip="none"))
    own = editing.own_conditions(images, OWN) if run.model.condition else None
    rows = {"x": editing.encoded(images), "own": own}
    way: Way = inverted(plain, strength)
    drawn, seconds = editing.draw(way, rows, editing.conditions(images))
    return _write(editing, images, drawn, seconds, {"inverted": f"{strength:g}"})


def read_mask(path: Path, shape: tuple[int, ...], resize: bool = False) -> Bool[np.ndarray, "height width channels"]:
    """Read a mask: True for the values of an image that are known, where the mask is black (darker than mid-gray).

    Raises `InputError` for a file that is no picture, for a size other than the images' unless `resize` is set (by
    nearest neighbor), and for a mask without black or without white.
    """
    if not path.is_file():
        raise InputError(f"--mask={printable(path)}: {'is not a file' if path.exists() else 'no such file'}")
    pixels = pictures.read(path).pixels
    if resize:
        rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip(shape, pixels.shape[:2], strict=False))
        pixels = pixels[rows.astype(int)[:, None], columns.astype(int)]
    if pixels.shape[:2] != shape[:2]:
        (height, width), (found_height, found_width) = shape[:2], pixels.shape[:2]
        raise InputError(
            f"--mask={printable(path)}: is {found_width}×{found_height}; must be {width}×{height}, as the model's "
            "images are; --resize makes it fit"
        )
    missing = pixels.mean(axis=-1) >= WHITE
    if not missing.any() or missing.all():
        what = "white, so nothing is to be filled in" if not missing.any() else "black, so nothing is kept"
        raise InputError(f"--mask={printable(path)}: has no {what}; must have both, white where images are filled in")
    return np.broadcast_to(~missing[..., None], shape)


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise InputError(f"--strength={strength}: must be from 0 to 1, the time t to which the image is noised")


def _write(
    editing: Editing,
    images: Images,
    drawn: np.ndarray,
    seconds: float,
    words: Mapping[str, Any],
    shown: Mapping[str, np.ndarray] = {},
    arrays: Mapping[str, np.ndarray] = {},
) -> Path:
    levels = editing.run.model.levels
    stem = editing.stem(images, **words)
    of_draws = {f"draw {j + 1}": to_frames(drawn[:, j], levels) for j in range(min(SHOWN, editing.draws))}
    columns = {"given": to_frames(images.images, levels), **shown, **of_draws}
    record = editing.record(images, **words, seconds=seconds)
    caption = ", ".join(f"{name} {value}" for name, value in words.items())
    editing.write(stem, record, {"images": drawn, "given": images.images, **arrays}, columns, images, caption)
    return stem
