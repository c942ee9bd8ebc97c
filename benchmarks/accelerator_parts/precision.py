"""The speed of each precision in evaluation and sampling, and its effect on bits/dim and images, compared in pairs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from accelerator_parts.cases import PRECISIONS, config_of
from accelerator_parts.figures import Figures
from accelerator_parts.loop import RUN
from vdm import bounds, parallel, parts
from vdm import model as model_lib
from vdm.config import SamplingConfig
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.statistics import stderr_over_images
from vdm.keys import Stream, stream_key
from vdm.model import Model, Variables
from vdm.runs.open import open_run
from vdm.speed import forward_flops

SAMPLER = "dpm_solver_pp(2)"


def measure(figures: Figures) -> None:
    """Measure the run of part `loop`, after a few hundred steps, in each precision; without it, use random weights."""
    folder, mesh = figures.folder / RUN, parallel.make_mesh()
    if (folder / "checkpoints").exists():
        opened = open_run(folder, mesh=mesh)
        config, variables, test = opened.config, opened.variables, opened.dataset.test
        images = [dict(test[i]) for i in range(len(test))]
    else:
        config = config_of("cifar10", "float32", figures.small)
        variables, images = (
            _random(model_lib.from_config(config)),
            _random_images(config.data.shape, config.data.levels),
        )
    images = images[: 8 if figures.small else 744]
    figures.add(trained=(folder / "checkpoints").exists(), num_images=len(images))
    model = model_lib.from_config(config)
    figures.add(forward_flops=forward_flops(model))

    totals: dict[str, np.ndarray] = {}
    for precision in PRECISIONS:
        computed = model.computed_in(precision)
        figures.add(**{f"evaluation_{precision}": evaluation(computed, variables, images, totals, precision, mesh)})
    for precision in ("bfloat16", "tf32"):
        figures.add(**{f"bits_per_dim_{precision}": paired(totals[precision] - totals["float32"])})
    drawn: dict[str, np.ndarray] = {}
    for precision in PRECISIONS:
        figures.add(**{f"sampling_{precision}": sampling(model, variables, figures.small, drawn, precision, mesh)})
    for precision in ("bfloat16", "tf32"):
        figures.add(**{f"images_{precision}": changed(drawn[precision], drawn["float32"])})


def evaluation(
    model: Model, variables: Variables, images: list[Any], totals: dict[str, np.ndarray], precision: str, mesh: Any
) -> dict[str, Any]:
    """Evaluate the images, always with the same draws; `totals` receives the bits/dim of each image."""
    evaluator, draws = Evaluator(model, mesh, min(250, len(images))), 4

    def evaluate() -> Any:
        return evaluator.estimates(variables, images, stream_key(0, Stream.EVALUATION), draws)

    estimates, first, seconds = _twice(evaluate)
    totals[precision] = np.asarray(bounds.bits_per_dim(estimates.terms.sum(axis=1).mean(axis=0), model.num_dims))
    calls = len(images) * draws
    return {
        "bits_per_dim": float(totals[precision].mean()),
        "seconds": seconds,
        "first_seconds": first,
        "network_calls": calls,
        "images_per_second": calls / seconds,
    }


def sampling(
    model: Model, variables: Variables, small: bool, drawn: dict[str, np.ndarray], precision: str, mesh: Any
) -> dict[str, Any]:
    """Sample, always from the same latents; `drawn` receives the images."""
    num, num_steps = (4, 3) if small else (128, 20)
    config = SamplingConfig(num=num, batch_size=num, steps=num_steps, sampler=SAMPLER, precision=precision)
    sampler = ImageSampler(model, mesh, config)
    (images, _), first, seconds = _twice(lambda: sampler(variables, stream_key(0, Stream.SAMPLING), num))
    drawn[precision] = images
    calls = num * num_steps * parts.make("sampler", SAMPLER).calls
    return {
        "seconds": seconds,
        "first_seconds": first,
        "network_calls": calls,
        "images_per_second": num / seconds,
    }


def paired(differences: np.ndarray) -> dict[str, float | None]:
    """Return the mean difference over images, its standard error, and the largest difference."""
    largest = float(np.abs(differences).max())
    return {"difference": float(differences.mean()), "stderr": stderr_over_images(differences), "largest": largest}


def changed(images: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Return the root mean square difference in gray levels, and the share of values that differ."""
    difference = images.astype(np.float64) - exact
    return {"rms_levels": float(np.sqrt(np.mean(difference**2))), "share_changed": float(np.mean(difference != 0))}


def _twice(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return (result, seconds with compilation, seconds without)."""
    begin = time.perf_counter()
    function()
    middle = time.perf_counter()
    result = function()
    return result, middle - begin, time.perf_counter() - middle


def _random(model: Model) -> Variables:
    """Return random variables, also in the last layers, which are initialized to zero and would hide the network."""
    variables = jax.jit(model.init)(stream_key(0, Stream.INIT))
    key = jax.random.key(0)
    network = jax.tree.map(lambda x: x + 0.02 * jax.random.normal(key, x.shape) * (x.ndim > 1), variables["network"])
    return variables | {"network": network}


def _random_images(shape: Any, levels: Any) -> list[dict[str, np.ndarray]]:
    values = np.random.default_rng(0).integers(0, levels, (64, *shape)).astype(np.uint8)
    return [{"image": value} for value in values]
