"""`vdm restore`: draw images from the posterior given what was measured of them, here or elsewhere."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from rich.table import Table

from vdm import parts, samplers
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.edited import measured, restored
from vdm.evaluation.latents import to_frames
from vdm.evaluation.psnr import psnr, residual_rms
from vdm.evaluation.statistics import stderr_over_images
from vdm.inverse import Measurement
from vdm.keys import Stream
from vdm.operators import Operator
from vdm.programs.editing import Editing, Images, made
from vdm.programs.given_images import Like, like_model
from vdm.restorations import Restoration
from vdm.runs.open import Run

SHOWN = 4
"""Number of draws at most that a picture shows of each image."""
MOST_NOISE = 1000.0


class Problem(NamedTuple):
    """What is to be inverted, y = A x + noise, and by which method."""

    operator: Operator
    noise: float
    """Standard deviation, for x in [−1, 1]."""
    restoration: Restoration
    names: dict[str, Any]
    """The operator, the noise and the method as records and file names have them."""

    @classmethod
    def of(cls, run: Run, operator: str, noise: float, method: str) -> "Problem":
        """Make the parts that the flags name.

        Raises `InputError` for an operator that does not fit the model's images, and for a method that cannot handle
        the operator.
        """
        check_noise(noise)
        made_operator: Operator = made("operator", "operator", operator, shape=tuple(run.model.shape))
        restoration: Restoration = made("method", "restoration", method)
        check(restoration, made_operator, method)
        names = {
            "operator": parts.canonical("operator", operator),
            "noise": noise,
            "method": parts.canonical("restoration", method),
        }
        return cls(made_operator, noise, restoration, names)

    def __str__(self) -> str:
        return f"{self.names['operator']}, noise {self.noise:g}, {self.names['method']}"

    def like_measured(self, run: Run) -> Like:
        """Describe measurements that are given as images."""
        like = like_model(run)
        return like._replace(shape=self.operator.measured, as_what=f"as {self.names['operator']} measures them")


def restore(editing: Editing, problem: Problem, images: Images) -> Path:
    """Measure images, and draw from the posterior; return the stem of the files written."""
    x, levels = editing.encoded(images), editing.run.model.levels
    key = editing.run.key(Stream.MEASUREMENT, editing.seed)
    y = measured(key, problem.operator, jnp.asarray(x), problem.noise)
    drawn, seconds = _draw(editing, problem, y, images)
    found = quality(problem.operator, drawn, images, y, levels)
    truth = {"true": to_frames(images.images, levels)}
    return _write(editing, problem, images, y, drawn, found, seconds, truth)


def restore_measured(editing: Editing, problem: Problem, images: Images) -> Path:
    """Draw from the posterior given images that are measurements themselves; return the stem of the files written.

    Where the operator only picks pixels, the others of the images are ignored.
    """
    y = editing.encoded(images)
    if problem.operator.known is not None:
        y = np.where(problem.operator.known, y, 0)
    drawn, seconds = _draw(editing, problem, y, images)
    residuals = residual_rms(problem.operator, drawn, y, editing.run.model.levels)
    found = {"residual_draw": _mean(residuals.mean(axis=1), images)}
    return _write(editing, problem, images, y, drawn, found, seconds, {})


def _draw(editing: Editing, problem: Problem, y: np.ndarray, images: Images) -> tuple[np.ndarray, float]:
    way = restored(problem.restoration, problem.operator, problem.noise)
    return editing.draw(way, {"y": y}, editing.conditions(images))


def _write(
    editing: Editing,
    problem: Problem,
    images: Images,
    y: np.ndarray,
    drawn: np.ndarray,
    found: dict[str, Any],
    seconds: float,
    truth: dict[str, np.ndarray],
) -> Path:
    """Print the table and write the files; `truth` is the picture's column of true images, if these are known."""
    levels = editing.run.model.levels
    found = {**found, **cost(problem.restoration, problem.operator, editing.settings), "seconds": seconds}
    editing.console.print(table(found, str(problem), problem.noise))
    stem = editing.stem(images, **problem.names | {"noise": f"{problem.noise:g}"})
    columns = {
        **truth,
        "measured": as_image(problem.operator, y),
        **{f"draw {j + 1}": to_frames(drawn[:, j], levels) for j in range(min(SHOWN, editing.draws))},
        "mean": to_frames(drawn.mean(axis=1, dtype=np.float32), levels),
    }
    arrays = {"images": drawn, "measured": y} | ({"true": images.images} if truth else {})
    caption = f"{problem}; mean of {editing.draws}"
    editing.write(stem, editing.record(images, **problem.names, result=found), arrays, columns, images, caption)
    return stem


def check_noise(noise: float) -> None:
    """Raise `InputError` for a standard deviation of the noise that is out of range."""
    if not 0 <= noise <= MOST_NOISE:
        raise InputError(f"--noise={noise:g}: must be from 0 to {MOST_NOISE:g}, of x in [-1, 1]")


def check(restoration: Restoration, operator: Operator, method: str) -> None:
    """Raise `InputError` for a method that cannot restore what the operator measures."""
    try:
        restoration.check(_nothing(operator))
    except ValueError as error:
        raise InputError(f"--method={method}: {error}") from error


def quality(
    operator: Operator, drawn: np.ndarray, images: Images, y: np.ndarray, levels: int
) -> dict[str, dict[str, float | None]]:
    """Return the PSNR (dB) of the measurement, of a draw and of the mean of draws, and the residuals (x in [−1, 1]).

    Each is a mean over images with its standard error. The residuals are those of a draw and of the true image.
    """
    truth = images.images
    seen = (as_image(operator, y) + 1) * (levels / 2) - 0.5
    return {
        "psnr_measured": _mean(psnr(np.clip(seen, 0, levels - 1), truth, levels), images),
        "psnr_draw": _mean(psnr(drawn, truth[:, None], levels).mean(axis=1), images),
        "psnr_mean": _mean(psnr(drawn.astype(np.float64).mean(axis=1), truth, levels), images),
        "residual_draw": _mean(residual_rms(operator, drawn, y, levels).mean(axis=1), images),
        "residual_true": _mean(residual_rms(operator, truth[:, None], y, levels)[:, 0], images),
    }


def _mean(values: np.ndarray, images: Images) -> dict[str, float | None]:
    return {"value": float(values.mean()), "stderr": stderr_over_images(values, images.batch.get("group"))}


def cost(restoration: Restoration, operator: Operator, settings: SamplingConfig) -> dict[str, int]:
    """Return calls and gradients of the denoiser per draw; with guidance, one call may be two of the network."""
    sampler: samplers.Sampler = parts.make("sampler", settings.sampler)
    calls = settings.steps * restoration.sampler(sampler, _nothing(operator), jnp.array([1.0, -1.0])).calls
    return {"calls_per_draw": calls, "gradients_per_draw": calls * restoration.gradients}


def as_image(operator: Operator, y: Float[np.ndarray, "images *measured"]) -> Float[np.ndarray, "images *data"]:
    """Return measurements as images of the data's shape; each value is repeated along axes that have fewer."""
    for axis, (whole, part) in enumerate(zip(operator.shape, operator.measured, strict=True), 1):
        y = np.repeat(y, whole // part, axis=axis)
    return y


def table(found: dict[str, Any], title: str, noise: float) -> Table:
    """Return a table with a row each for the measurement, the true image, a draw and the mean of draws, as known."""
    result = Table(title=title, caption=_cost(found), min_width=max(len(title), len(_cost(found))) + 4)
    psnr_known = "psnr_draw" in found
    for column in ("", *["PSNR, dB"] * psnr_known, "residual / noise" if noise else "residual, of x in [-1, 1]"):
        result.add_column(column, justify="right" if column else "left", no_wrap=True)
    rows = {"measured": "the measurement", "true": "the true image", "draw": "a draw", "mean": "the mean of draws"}
    for name, row in rows.items():
        quality, residual = (found.get(f"{each}_{name}") for each in ("psnr", "residual"))
        if quality or residual:
            apart = f"{residual['value'] / (noise or 1):.3g}" if residual else ""
            result.add_row(row, *[_shown(quality) if quality else ""] * psnr_known, apart)
    return result


def _cost(found: dict[str, Any]) -> str:
    calls, gradients = (found[f"{name}_per_draw"] for name in ("calls", "gradients"))
    return f"{calls} calls and {gradients} gradients per draw, {found['seconds']:.1f} s in total, with compilation"


def _shown(mean: dict[str, float | None]) -> str:
    stderr = mean["stderr"]
    return f"{mean['value']:.2f}" + ("" if stderr is None else f" ± {stderr:.2f}")


def _nothing(operator: Operator) -> Measurement:
    """Return a measurement of all zeros, to check methods against the operator's shapes."""
    return Measurement(operator, jnp.zeros((1, *operator.measured)))
