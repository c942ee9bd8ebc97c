"""Bits/dim of a set of images by the probability-flow ODE, next to the variational bound on the same images.

Both bound −log P(x) with the same q(z₀|x) and p(x|z₀); they differ in p(z₀). The variational bound belongs to the model
that ancestral sampling draws from; the ODE has its own density (`vdm.probability_flow`). Let P be the distribution of
the data, q_γ the density of z_γ and ε* = E[ε|z_γ] the exact denoiser. Averaged over the data, both bounds are
−E log P(x) plus

    decoder  E KL(q(x|z₀) ‖ p(x|z₀)),  the dequantization gap: p(x|z₀) treats the dimensions as independent, and
                                       all levels as equally likely,
    prior    KL(q_{γ₁} ‖ N(0, I)),
    network  ½ ∫ E‖ε̂ − ε*‖² dγ               for the variational bound,
             ½ ∫ E⟨ε̂ − ε*, ε_p − ε*⟩ dγ      for the ODE, with ε_p = −σ ∇ log p_γ of the ODE's own density p_γ.

The last line is the result of Lu et al. (2022) written in γ; it follows from
d KL(q_γ ‖ p_γ)/dγ = E⟨f_q − f_p, ∇ log q_γ − ∇ log p_γ⟩ for two flows f = ½ σ (ε − σ z). For the exact denoiser the two
averages are therefore equal, and they tend to −E log P(x) as γ₀ falls and γ₁ grows. For a learned denoiser they are
likelihoods of two different models, equal only insofar as ε̂ is the score of its own flow; the difference may have
either sign, but most papers report the ODE as the lower one. Uniform dequantization (`probability_flow.uniform_bound`)
would measure a third model, and would be worse whenever the model knows that its data are integers: σ₀ well below half
a bin.

The solver's own error is measured, not assumed: images spread over the set are solved a second time at a tenth of the
tolerance, which removes most of it. `OdeEvaluation.solver_error` is the root mean square of the change.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import bounds, memory, parallel, precisions, probability_flow
from vdm.data import evaluation_batches, num_evaluated, selection
from vdm.data.dataset import Batch, Source
from vdm.errors import InputError
from vdm.evaluation.bound import (
    Estimates,
    Evaluation,
    Evaluator,
    Progress,
    image_noise,
    to_evaluation,
    total_with_error,
)
from vdm.evaluation.statistics import stderr_of_draws, stderr_over_images
from vdm.keys import keys_at
from vdm.model import Model, Variables

EXACT_DIMS, DEFAULT_PROBES = 16, 8
"""Up to `EXACT_DIMS` dimensions, the divergence is exact by default, with one tangent per dimension.

Above, it is estimated with `DEFAULT_PROBES` random probes.
"""

ODE_TERMS = ("reconstruction", "latent", "dequantization")


class UnsolvedError(InputError):
    """An image's ODE has no solution within the solver's limits, or the network's output is not finite there."""


class OdeEstimates(NamedTuple):
    """Measurements for each draw and image."""

    terms: Float[np.ndarray, "draws 3 images"]
    """(reconstruction, latent, dequantization) of `probability_flow.DiscreteBound`, in nats."""
    num_calls: Integer[np.ndarray, "draws images"]
    """Network calls of each solve."""
    solver_errors: Float[np.ndarray, " checked"]
    """Decrease of the first draw's bound at a tenth of the tolerance, for the checked images, in nats.

    NaN if there is no solution at that tolerance.
    """


@dataclass(frozen=True)
class OdeEvaluation:
    """The ODE's bound on a set of images in bits/dim, averaged over images and draws of z₀."""

    total: float
    reconstruction: float
    """−log p(x|z₀)."""
    latent: float
    """−log p(z₀)."""
    dequantization: float
    """log q(z₀|x)."""
    stderr: float | None
    """Standard error of `total` for images like these, noise included; see `variational.stderr_over`."""
    noise_stderr: float | None
    """Standard error of `total` for this exact set of images, from the noise draws alone. None for a single draw."""
    importance_weighted: float | None
    """Importance-weighted bound: all draws of an image in one logarithm.

    None for a single draw, or if the divergence is estimated by probes.
    """
    num_images: int
    num_draws: int
    num_probes: int
    """Number of probes in Hutchinson's estimate of the divergence. 0: exact."""
    tolerance: float
    """Allowed error of a solver step in each dimension."""
    solver_error: float | None
    """The solver's error in one draw of an image, root mean square over `num_checked` images.

    It is measured as the change at a tenth of the tolerance. The solver's error in `total` is at most this. None if one
    of these images has no solution at a tenth of the tolerance.
    """
    num_checked: int
    mean_calls: float
    """Mean number of network calls for one draw of an image; each call has a tangent for every probe or dimension."""
    max_calls: int
    variational: Evaluation
    """The variational bound on the same images."""
    difference: float
    """`total` minus that of `variational`."""
    difference_stderr: float | None
    """Paired standard error of `difference`, over the same units as `stderr`. None for a single image or group."""

    def __str__(self) -> str:
        return total_with_error(self.total, self.stderr)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as in the file that `evaluate.py --ode` writes."""
        names = ("total", *ODE_TERMS, "stderr", "noise_stderr", "importance_weighted")
        return {
            "kind": "probability-flow ODE: comparable only with numbers of this kind",
            "bits_per_dim": {name: getattr(self, name) for name in names},
            **{name: getattr(self, name) for name in ("num_images", "num_draws", "num_probes", "tolerance")},
            "solver_error": {"bits_per_dim": self.solver_error, "num_images": self.num_checked},
            "network_calls_per_draw": {"mean": self.mean_calls, "max": self.max_calls},
            "stderr_over": self.variational.stderr_over,
            "images": selection.record(self.num_images, self.variational.num_available or self.num_images),
            "precision": precisions.FLOAT32,
            "variational": self.variational.to_dict(),
            "difference": {"mean": self.difference, "stderr": self.difference_stderr},
        }


class OdeEvaluator:
    """Evaluates the ODE's bound with the variables of one model; compiles once per batch size.

    Draw d of image k takes its noise from fold_in(key, k), and every image is solved with its own steps, so the result
    depends on the batch size and the devices through float32 rounding only; ε₀ is that of the same draw of `Evaluator`.
    Rounding may still decide whether a step is accepted, and so change all later steps; results then differ by the
    solver's error. That is a few times `tolerance` per dimension for a smooth network and grows with the number of
    steps. A rough network, such as one with Fourier features early in training, takes hundreds of steps, and images
    then differ by more than the last digits printed. Hence the error is measured: see `OdeEvaluation.solver_error`. A
    smaller `tolerance` reduces it, down to 1e-5 in float32.

    Every device solves its share of a batch on its own, and waits only for the slowest image of that share.
    """

    def __init__(
        self,
        model: Model,
        mesh: Mesh,
        batch_size: int,
        num_probes: int | None = None,
        tolerance: float = 1e-4,
        max_steps: int = 2000,
    ):
        """Limit network calls to `batch_size` image–tangent pairs: the more tangents, the fewer images.

        There is at least one image per device. `num_probes` = 0 selects the exact divergence; None selects it up to
        `EXACT_DIMS` dimensions, and `DEFAULT_PROBES` probes above. Raises `InputError` for a discrete-time model, whose
        bound is that of T steps and has no ODE, and for a precision other than float32, whose rounding the step size
        control would take for its own error.
        """
        if model.precision != precisions.FLOAT32:
            raise InputError(
                f"config.evaluation.precision={model.precision!r}: must be float32 for the ODE, whose step size "
                "control mistakes rounding for its own error"
            )
        if model.num_steps is not None:
            raise InputError(f"config.objective.num_steps={model.num_steps}: must be None (continuous time) for ODEs")
        if num_probes is None:
            num_probes = 0 if model.num_dims <= EXACT_DIMS else DEFAULT_PROBES
        self.model, self.mesh = model, mesh
        self.num_probes, self.tolerance, self.max_steps = num_probes, tolerance, max_steps
        self.batch_size = parallel.round_up(max(1, batch_size // (num_probes or model.num_dims)), mesh)
        share, whole = parallel.batch_sharding(mesh).spec, parallel.replicated(mesh).spec
        self._batch_bound = jax.jit(
            jax.shard_map(
                partial(image_ode_bounds, model, num_probes, max_steps),
                mesh=mesh,
                in_specs=(whole, whole, whole, whole, share),
                out_specs=share,
                check_vma=False,
            )
        )

    def __call__(
        self,
        variables: Variables,
        source: Source,
        key: PRNGKeyArray,
        num_draws: int,
        max_images: int = 0,
        progress: Progress = lambda done, total: None,
    ) -> OdeEstimates:
        """Solve `num_draws` draws of every image of `source`, or of `max_images` spread over it.

        One more batch, spread over these images, repeats the first draw at a tenth of the tolerance. Raises
        `UnsolvedError` naming the first image and draw that could not be solved.
        """
        total, done = num_evaluated(source, max_images), 0
        processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        terms, num_calls, indices = [], [], []
        checked: Batch = {}
        # Padding would be solved too, so the batch is no larger than needed.
        batch_size = min(self.batch_size, parallel.round_up(total, self.mesh))
        num_batches = -(-total // batch_size)
        for n, batch in enumerate(evaluation_batches(source, batch_size, max_images=max_images, **processes)):
            draws, sharded = [], parallel.shard_batch(batch, self.mesh)
            for d in range(num_draws):
                one = self._solve(variables, key, d, self.tolerance, sharded)
                self._check(*one, d)
                draws.append(one)
                done += len(one.indices)
                progress(done, total * num_draws)
            terms.append(np.stack([one.terms.T for one in draws]))
            num_calls.append(np.stack([one.num_calls for one in draws]))
            indices.append(draws[0].indices)
            checked = _with_rows_of(checked or batch, batch, n, num_batches)
        estimates = np.concatenate(terms, axis=2), np.concatenate(num_calls, axis=1)
        again = self._solve(variables, key, 0, self.tolerance / 10, parallel.shard_batch(checked, self.mesh))
        position = {index: n for n, index in enumerate(np.concatenate(indices).tolist())}
        before = estimates[0][0, :, [position[index] for index in again.indices.tolist()]]
        return OdeEstimates(*estimates, before.sum(axis=1) - again.terms.sum(axis=1))

    def _solve(
        self, variables: Variables, key: PRNGKeyArray, d: int, tolerance: float, batch: dict[str, Array]
    ) -> "_Solved":
        # Applies to everything outside the network.
        exact = precisions.products(precisions.FLOAT32)
        with exact, memory.guarded("evaluation", memory.EVALUATION):
            result = self._batch_bound(variables, key, jnp.asarray(d), jnp.float32(tolerance), batch)
            terms, num_calls, mask, index = parallel.to_host((*result, batch["mask"], batch["index"]))
        return _Solved(terms[mask].astype(np.float64), num_calls[mask], index[mask])

    def _check(self, terms: Float[np.ndarray, "images 3"], _: np.ndarray, index: np.ndarray, d: int) -> None:
        unsolved = index[~np.all(np.isfinite(terms), axis=1)]
        if unsolved.size:
            raise UnsolvedError(
                f"image {unsolved[0]} (draw {d}): no solution of the ODE within {self.max_steps} steps of at least "
                f"{probability_flow.MIN_STEP:g} in γ at tolerance {self.tolerance:g}: a larger one may help, if "
                "the network's output is finite"
            )


class _Solved(NamedTuple):
    """Results for the images of a batch, without padding."""

    terms: Float[np.ndarray, "images 3"]
    num_calls: Integer[np.ndarray, " images"]
    indices: Integer[np.ndarray, " images"]


def _with_rows_of(checked: Batch, batch: Batch, n: int, num_batches: int) -> Batch:
    """Copy some rows of batch n into `checked`, so that its rows finally come from all batches evenly."""
    rows = np.arange(len(batch["mask"]))
    chosen = rows * max(1, num_batches // len(rows)) % num_batches == n
    return {
        name: np.where(chosen.reshape(-1, *[1] * (entry.ndim - 1)), entry, checked[name])
        for name, entry in batch.items()
    }


def image_ode_bounds(
    model: Model,
    num_probes: int,
    max_steps: int,
    variables: Variables,
    key: PRNGKeyArray,
    d: Integer[Array, ""],
    tolerance: Float[Array, ""],
    batch: dict[str, Array],
) -> tuple[Float[Array, "batch 3"], Integer[Array, " batch"]]:
    """Return the terms of `probability_flow.gaussian_bound` for draw d of each image, in nats, and the network calls.

    A batch has "image", "index" and the network's conditions. `num_probes` = 0 selects the exact divergence.
    """
    # The same ε₀ as in the first round of `Evaluator`.
    keys = keys_at(jax.random.fold_in(key, 0), batch["index"])
    eps_0 = image_noise(keys, 2 * d + 2, model.shape)
    probes = None
    if num_probes:
        # A round number that `Evaluator` never reaches.
        probe_key = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), d)
        one = partial(probability_flow.rademacher, probe_key, (1, *model.shape), num_probes)
        probes = jax.vmap(one)(batch["index"])[:, 0]
    bound = probability_flow.gaussian_bound(
        model.denoiser(variables, model.condition_of(batch)),
        batch["image"],
        eps_0,
        model.gamma(variables, jnp.float32(0)),
        model.gamma(variables, jnp.float32(1)),
        model.levels,
        probes,
        tolerance,
        max_steps,
    )
    return jnp.stack([getattr(bound, name) for name in ODE_TERMS], axis=1), bound.num_calls


def evaluate_ode(
    evaluator: OdeEvaluator,
    variables: Variables,
    source: Source,
    key: PRNGKeyArray,
    *,
    num_draws: int,
    variational_draws: int,
    batch_size: int,
    max_images: int = 0,
    progress: Progress = lambda done, total: None,
) -> OdeEvaluation:
    """Evaluate both bounds on the images of `source` (or `max_images` spread over it).

    Each bound has its own number of draws per image. `batch_size` is the number of images per network call for the
    variational bound. `progress` reports on the ODE, which takes far longer. Raises as `OdeEvaluator` does.
    """
    ode = evaluator(variables, source, key, num_draws, max_images, progress)
    variational = Evaluator(evaluator.model, evaluator.mesh, batch_size).estimates(
        variables, source, key, variational_draws, max_images=max_images
    )
    return to_ode_evaluation(ode, variational, evaluator.model.num_dims, evaluator.num_probes, evaluator.tolerance)


def to_ode_evaluation(
    ode: OdeEstimates, variational: Estimates, num_dims: int, num_probes: int, tolerance: float
) -> OdeEvaluation:
    """Compute means and standard errors in bits/dim, in float64, from both estimates of the same images."""
    terms = bounds.bits_per_dim(ode.terms, num_dims)
    draws, _, num = terms.shape
    totals = terms.sum(axis=1)
    images = totals.mean(axis=0)
    differences = images - bounds.bits_per_dim(variational.terms, num_dims).sum(axis=1).mean(axis=0)
    weighted = None
    if draws > 1 and num_probes == 0:
        nats = probability_flow.importance_weighted(jnp.asarray(ode.terms.sum(axis=1), jnp.float32))
        weighted = bounds.bits_per_dim(float(np.mean(nats)), num_dims)
    reconstruction, latent, dequantization = (float(term) for term in terms.mean(axis=(0, 2)))
    return OdeEvaluation(
        float(images.mean()),
        reconstruction,
        latent,
        dequantization,
        stderr=stderr_over_images(images, variational.groups),
        noise_stderr=stderr_of_draws(totals),
        importance_weighted=weighted,
        num_images=num,
        num_draws=draws,
        num_probes=num_probes,
        tolerance=tolerance,
        solver_error=_solver_error(ode.solver_errors, num_dims),
        num_checked=len(ode.solver_errors),
        mean_calls=float(ode.num_calls.mean()),
        max_calls=int(ode.num_calls.max()),
        variational=to_evaluation(variational, num_dims),
        difference=float(differences.mean()),
        difference_stderr=stderr_over_images(differences, variational.groups),
    )


def _solver_error(nats: Float[np.ndarray, " checked"], num_dims: int) -> float | None:
    error = float(np.sqrt(np.mean(np.square(bounds.bits_per_dim(nats, num_dims)))))
    return error if np.isfinite(error) else None
