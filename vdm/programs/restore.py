"""`vdm restore`: degrade images by a measurement, and draw images from the posterior given what was measured."""

from pathlib import Path
from typing import Any

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
from vdm.restorations import Restoration

SHOWN = 4
"""Number of draws at most that a picture shows of each image."""
MOST_NOISE = 1000.0


def restore(editing: Editing, images: Images, operator: str, noise: float, method: str) -> Path:
    """Measure images by an operator A with noise, and draw from the posterior; return the stem of the files written.

    Raises `InputError` for an operator that does not fit the images, and for a method that cannot handle the operator.
    """
    check_noise(noise)
    run, levels = editing.run, editing.run.model.levels
    of_images: Operator = made("operator", "operator", operator, shape=tuple(run.model.shape))
    restoration: Restoration = made("method", "restoration", method)
    names = {"operator": parts.canonical("operator", operator), "method": parts.canonical("restoration", method)}
    check(restoration, of_images, method)
    condition = editing.conditions(images)
    x = editing.encoded(images)
    y = measured(run.key(Stream.MEASUREMENT, editing.seed), of_images, jnp.asarray(x), noise)
    drawn, seconds = editing.draw(restored(restoration, of_images, noise), {"y": y}, condition)
    found = {
        **quality(of_images, drawn, images, y, levels),
        **cost(restoration, of_images, editing.settings),
        "seconds": seconds,
    }
    editing.console.print(table(found, f"{names['operator']}, noise {noise:g}, {names['method']}", noise))
    words = {"operator": names["operator"], "noise": f"{noise:g}", "method": names["method"]}
    stem = editing.stem(images, **words)
    mean = drawn.mean(axis=1, dtype=np.float32)
    columns = {
        "true": to_frames(images.images, levels),
        "measured": as_image(of_images, y),
        **{f"draw {j + 1}": to_frames(drawn[:, j], levels) for j in range(min(SHOWN, editing.draws))},
        "mean": to_frames(mean, levels),
    }
    record = editing.record(images, operator=names["operator"], noise=noise, method=names["method"], result=found)
    arrays = {"images": drawn, "true": images.images, "measured": y}
    caption = f"{words['operator']}, noise {noise:g}; {words['method']}; mean of {editing.draws}"
    editing.write(stem, record, arrays, columns, images, caption)
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
    truth, groups = images.images, images.batch.get("group")

    def mean(values: np.ndarray) -> dict[str, float | None]:
        return {"value": float(values.mean()), "stderr": stderr_over_images(values, groups)}

    seen = (as_image(operator, y) + 1) * (levels / 2) - 0.5
    return {
        "psnr_measured": mean(psnr(np.clip(seen, 0, levels - 1), truth, levels)),
        "psnr_draw": mean(psnr(drawn, truth[:, None], levels).mean(axis=1)),
        "psnr_mean": mean(psnr(drawn.astype(np.float64).mean(axis=1), truth, levels)),
        "residual_draw": mean(residual_rms(operator, drawn, y, levels).mean(axis=1)),
        "residual_true": mean(residual_rms(operator, truth[:, None], y, levels)[:, 0]),
    }


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
    """Return a table with a row each for the measurement, the true image, a draw and the mean of draws."""
    result = Table(title=title, caption=_cost(found), min_width=max(len(title), len(_cost(found))) + 4)
    for column in ("", "PSNR, dB", "residual / noise" if noise else "residual, of x in [-1, 1]"):
        result.add_column(column, justify="right" if column else "left", no_wrap=True)
    residual = {name: f"{found[f'residual_{name}']['value'] / (noise or 1):.3g}" for name in ("draw", "true")}
    result.add_row("the measurement", _shown(found["psnr_measured"]), "")
    result.add_row("the true image", "", residual["true"])
    result.add_row("a draw", _shown(found["psnr_draw"]), residual["draw"])
    result.add_row("the mean of draws", _shown(found["psnr_mean"]), "")
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
