"""The probability-flow ODE with adaptive steps (diffrax): deterministic samples, codes, and exact log-likelihoods.

z = α x + σ ε with fixed x and ε moves by dz/dγ = ½ α σ (α ε − σ x), for dα/dγ = −½ α σ² and dσ/dγ = ½ σ α². With
the model's x̂ and ε̂ in their place this is the probability-flow ODE of Song et al. (2021),

    dz/dγ = f(z, γ) = ½ α σ v̂,   v̂ = α ε̂ − σ x̂,

in log-SNR instead of time: nothing is divided, f vanishes at both ends, and no schedule enters, only its end points.
For the exact denoiser the flow of p_{γ₁} is p_γ at every γ. For a learned one it *defines* a density p(z₀), that of
N(0, I) at γ₁ carried down to γ₀; d log p(z)/dγ = −div f along the flow (Chen et al. 2018), so

    log p(z₀) = log N(z₁; 0, I) + ∫_{γ₀}^{γ₁} div f(z, γ) dγ.

This is not the model whose bound `vdm.bounds` computes: −log p(x) of the two differ unless ε̂ is exact.

`tolerance` is the error of a step, for each data dimension: of z in units of σ(γ), of log p in nats. An error δ of z
moves log p by ε̂ δ/σ, so one tolerance for z itself would be far too loose at γ₀ or far too tight at γ₁. log p is then
wrong by a few `tolerance` a dimension, in float32 down to 1e-5. Every example has steps of its own, whatever else is
in its batch; the batch takes as long as its slowest. An example that is not at its end after `max_steps` steps, or
whose steps fall below `MIN_STEP` (as with a network that is not finite), is NaN. Everything is pure and may be jitted,
but not differentiated. Evaluate with `jax.default_matmul_precision("highest")`: to the step control, a network's
rounding in TF32 or bfloat16 looks like roughness.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from vdm import gaussian, likelihoods, predictions
from vdm.bounds import Denoise

FIRST_STEP = 0.1
"""Size of the first step in γ."""

MIN_STEP = 1e-5
"""Smallest step in γ: a solve that wants smaller ones is given up."""


class Solution(NamedTuple):
    """The other end of the flow."""

    z: Float[Array, "batch *data"]
    num_calls: Integer[Array, " batch"]
    """Network calls that each example needed, rejected steps included."""


class LogLikelihood(NamedTuple):
    """The density at one end of the flow."""

    log_prob: Float[Array, " batch"]
    """log p(z₀) in nats: log N(z₁; 0, I) plus the mean of `divergence`."""
    divergence: Float[Array, "batch estimates"]
    """∫ div f dγ as each probe has it, or once if exact: with several, their spread tells the error of the mean."""
    z_1: Float[Array, "batch *data"]
    num_calls: Integer[Array, " batch"]
    """Network calls, each with a tangent for every probe or data dimension."""


class DiscreteBound(NamedTuple):
    """A bound on −log P(x) of integer data at one draw of z₀ ~ q(z₀|x), in nats; its mean over draws is the bound.

    −log P(x) = −log ∫ p(x|z₀) p(z₀) dz₀ ≤ E_q[−log p(x|z₀) − log p(z₀) + log q(z₀|x)].
    """

    reconstruction: Float[Array, " batch"]
    """−log p(x|z₀)."""
    latent: Float[Array, " batch"]
    """−log p(z₀)."""
    dequantization: Float[Array, " batch"]
    """log q(z₀|x)."""
    num_calls: Integer[Array, " batch"]

    @property
    def total(self) -> Float[Array, " batch"]:
        """The sum of the three terms."""
        return self.reconstruction + self.latent + self.dequantization


def velocity(denoise: Denoise, z: Float[Array, "batch *data"], gamma: gaussian.Gamma) -> Float[Array, "batch *data"]:
    """dz/dγ = ½ α σ (α ε̂ − σ x̂) of the probability flow; γ is a scalar or (batch,)."""
    x_hat, eps_hat = predictions.pair(denoise)(z, gamma)
    gamma = gaussian.expand(gamma, z)
    alpha, sigma = gaussian.alpha(gamma), gaussian.sigma(gamma)
    return 0.5 * alpha * sigma * (alpha * eps_hat - sigma * x_hat)


def sample(
    denoise: Denoise,
    z_1: Float[Array, "batch *data"],
    gamma_1: ArrayLike,
    gamma_0: ArrayLike,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> Solution:
    """z₀ at γ₀ of the flow through z₁ at γ₁; with z₁ ~ N(0, I) a draw of p(z₀). γ₀ and γ₁ are scalars.

    The flow knows no direction: with γ₀ for γ₁ and γ₁ for γ₀ it is `encode`.
    """
    (z_0,), num_calls = _solve(partial(_velocity, denoise), (z_1,), (), gamma_1, gamma_0, tolerance, max_steps)
    return Solution(z_0, num_calls)


def encode(
    denoise: Denoise,
    z_0: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> Solution:
    """z₁ at γ₁ of the flow through z₀ at γ₀: the inverse of `sample`. γ₀ and γ₁ are scalars."""
    return sample(denoise, z_0, gamma_0, gamma_1, tolerance, max_steps)


def log_likelihood(
    denoise: Denoise,
    z_0: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    probes: Float[Array, "batch probes *data"] | None = None,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> LogLikelihood:
    """log p(z₀) in nats: the density at γ₀ of what `sample` makes of z₁ ~ N(0, I). γ₀ and γ₁ are scalars.

    Without `probes` the divergence is exact: every network call has a tangent a data dimension. With them it is
    Hutchinson's estimate, the mean of v·∂f/∂z v over probes v of covariance I (`rademacher`), at a tangent a probe.
    A probe stays the same along the flow, so that log p(z₀) is unbiased.
    """
    start = jnp.zeros((z_0.shape[0], 1 if probes is None else probes.shape[1]), z_0.dtype)
    (z_1, divergence), num_calls = _solve(
        partial(_velocity_and_divergence, denoise),
        (z_0, start),
        () if probes is None else probes,
        gamma_0,
        gamma_1,
        tolerance,
        max_steps,
    )
    log_prior = _sum(-0.5 * (jnp.square(z_1) + np.log(2 * np.pi)))
    return LogLikelihood(log_prior + jnp.mean(divergence, axis=1), divergence, z_1, num_calls)


def rademacher(
    key: PRNGKeyArray, shape: Sequence[int], num_probes: int, first: int | Array = 0
) -> Float[Array, "batch probes *data"]:
    """Probes of independent signs ±1 for z of shape `shape` = (batch, *data).

    Those of image k come from fold_in(key, first + k), as the samplers' noise. Raises ValueError unless num_probes ≥ 1.
    """
    if num_probes < 1:
        raise ValueError(f"num_probes={num_probes}: must be 1 or more")
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(shape[0]))
    return jax.vmap(lambda key: jax.random.rademacher(key, (num_probes, *shape[1:]), jnp.float32))(keys)


def gaussian_bound(
    denoise: Denoise,
    x: Integer[Array, "batch *data"],
    eps_0: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    levels: int,
    probes: Float[Array, "batch probes *data"] | None = None,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> DiscreteBound:
    """The bound on −log P(x) with VDM's own q(z₀|x) = N(α₀ x, σ₀²) and decoder p(x|z₀), at z₀ = α₀ x + σ₀ ε₀.

    P(x) = ∫ p(x|z₀) p(z₀) dz₀ is what `sample` and `likelihoods.sample` draw from. Every term is exact at its draw,
    log q(z₀|x) too instead of its mean, the entropy: as −log p(z₀) is near −log q(z₀|x) − log P(x), the noise of the
    two cancels. x has integer values 0 … levels−1.
    """
    z_0 = gaussian.diffuse(likelihoods.encode(x, levels), eps_0, gamma_0)
    log_sigma = 0.5 * jax.nn.log_sigmoid(jnp.asarray(gamma_0))
    log_q = _sum(-0.5 * (jnp.square(eps_0) + np.log(2 * np.pi)) - log_sigma)
    flow = log_likelihood(denoise, z_0, gamma_0, gamma_1, probes, tolerance, max_steps)
    return DiscreteBound(-likelihoods.log_prob(x, z_0, gamma_0, levels), -flow.log_prob, log_q, flow.num_calls)


def uniform_bound(
    denoise: Denoise,
    x: Integer[Array, "batch *data"],
    u: Float[Array, "batch *data"],
    gamma_0: ArrayLike,
    gamma_1: ArrayLike,
    levels: int,
    probes: Float[Array, "batch probes *data"] | None = None,
    tolerance: ArrayLike = 1e-4,
    max_steps: int = 1000,
) -> DiscreteBound:
    """The bound on −log P(x) by uniform dequantization, at z₀/α₀ = (2 (x + u))/levels − 1 with u ~ U(0, 1).

    Here P(x) is the mass of x's bin under the density of z₀/α₀ (`likelihoods.decode` of it, the outermost bins without
    what lies beyond ±1), another model than that of `gaussian_bound`: the bin decides on x, so that its
    reconstruction is 0, and q(z₀|x) is uniform on α₀ times the bin. Poor where σ₀ is well below the bin's half-width
    1/levels: a model of integer data then has its density around the bins' centres only, and log p(z₀) is far down
    between them. x has integer values 0 … levels−1.
    """
    gamma = jnp.asarray(gamma_0, u.dtype)
    z_0 = gaussian.alpha(gamma) * (likelihoods.encode(x, levels) + (2 * u - 1) / levels)
    # z₀ lies on α₀ times a cube of side 2/levels.
    log_q = _sum(jnp.broadcast_to(-np.log(2 / levels) - 0.5 * jax.nn.log_sigmoid(-gamma), x.shape))
    flow = log_likelihood(denoise, z_0, gamma_0, gamma_1, probes, tolerance, max_steps)
    return DiscreteBound(jnp.zeros_like(log_q), -flow.log_prob, log_q, flow.num_calls)


def importance_weighted(nats: Float[Array, "draws batch"]) -> Float[Array, " batch"]:
    """−log mean exp(−nats) over K draws of `DiscreteBound.total`, whose mean falls with K to −log P(x).

    Burda et al. (2016). A bound for the exact divergence only: Hutchinson's log p(z₀) is unbiased, but its exp is on
    average too large.
    """
    return np.log(nats.shape[0]) - jax.nn.logsumexp(-nats, axis=0)


State = tuple[Array, ...]
"""(z,) or (z, ∫ div f dγ), and their derivatives by γ."""

Field = Callable[[Array, Array, Any], State]
"""(z, γ, probes) -> d state/dγ of a batch; `probes` is () where there are none."""


def _velocity(denoise: Denoise, z: Array, gamma: Array, _: Any) -> State:
    return (velocity(denoise, z, gamma),)


def _velocity_and_divergence(denoise: Denoise, z: Array, gamma: Array, probes: Any) -> State:
    """(f, div f): the divergence (batch, 1) exactly without probes, else (batch, probes) as each of them has it."""
    f, derivative = jax.linearize(lambda z: velocity(denoise, z, gamma), z)

    def quadratic(v: Array) -> Array:
        return _sum(v * derivative(v))

    if isinstance(probes, tuple):
        # An example's f depends on its own z only: one basis serves the whole batch.
        basis = jnp.eye(z[0].size, dtype=z.dtype).reshape(-1, 1, *z.shape[1:])
        diagonal = jax.vmap(lambda v: quadratic(jnp.broadcast_to(v, z.shape)), out_axes=1)(basis)
        return f, jnp.sum(diagonal, axis=1, keepdims=True)
    return f, jax.vmap(quadratic, in_axes=1, out_axes=1)(probes)


class _Controller(diffrax.PIDController):
    """Steps by the error in units of σ(γ) and nats, with γ = args · t: diffrax's t always increases."""

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, *args: Any) -> Any:
        # A step of given size needs no network calls to find, and is positive here.
        return super().init(terms, t0, t1, y0, FIRST_STEP, *args)

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, *state: Any
    ) -> Any:
        z_error, *rest = y_error
        sigma = gaussian.sigma(jnp.minimum(args * t0, args * t1))
        return super().adapt_step_size(t0, t1, y0, y1_candidate, args, (z_error / sigma, *rest), *state)


def _error(scaled: State) -> Array:
    """Root mean square over z, or that of log p a dimension if larger."""
    z, *rest = scaled
    error = jnp.sqrt(jnp.mean(jnp.square(z)))
    for divergence in rest:
        error = jnp.maximum(error, jnp.max(jnp.abs(divergence)) / z.size)
    return error


def _solve(
    field: Field, state: State, probes: Any, start: ArrayLike, end: ArrayLike, tolerance: ArrayLike, max_steps: int
) -> tuple[State, Array]:
    """The state at γ = `end` from that at γ = `start`, and the network calls of each example."""
    dtype = state[0].dtype
    gamma_start, gamma_end, tolerance = (jnp.asarray(value, dtype) for value in (start, end, tolerance))

    # The network's variables may be tracers of a jit around us, which the rule below, called while a loop is batched,
    # could not close over: they become inputs.
    closed = jax.make_jaxpr(field)(state[0], jnp.broadcast_to(gamma_start, state[0].shape[:1]), probes)

    # diffrax solves for one example, under vmap; the network still sees the batch, whose conditions it may hold.
    @custom_vmap
    def derivative(consts: list[Any], state: State, gamma: Array, probes: Any) -> State:
        # Never computed: for the shapes only.
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state)

    @derivative.def_vmap
    def _(size: int, batched: Any, *inputs: Any) -> tuple[State, Any]:
        def widen(leaf: Array, is_batched: bool) -> Array:
            return leaf if is_batched else jnp.broadcast_to(leaf, (size, *leaf.shape))

        consts, *rest = inputs
        state, gamma, probes = jax.tree.map(widen, tuple(rest), tuple(batched[1:]))
        evaluate = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
        result = tuple(evaluate(*jax.tree.leaves((state[0], gamma, probes))))
        return result, jax.tree.map(lambda _: True, result)

    def solve(state: State, probes: Any) -> tuple[State, Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda gamma, state, _: derivative(closed.consts, state, gamma, probes)),
            diffrax.Tsit5(),
            gamma_start,
            gamma_end,
            dt0=None,
            y0=state,
            args=jnp.where(gamma_start < gamma_end, 1, -1).astype(dtype),
            stepsize_controller=_Controller(rtol=0, atol=tolerance, norm=_error, dtmin=MIN_STEP, force_dtmin=False),
            adjoint=diffrax.ForwardMode(),
            max_steps=max_steps,
            throw=False,
        )
        done = solution.result == diffrax.RESULTS.successful
        final = jax.tree.map(lambda leaf: jnp.where(done, leaf[-1], jnp.nan), solution.ys)
        # Tsit5 calls the network six times a step: its seventh stage is the next step's first. (A first step that is
        # rejected costs one more, which diffrax does not report.)
        return final, 6 * solution.stats["num_steps"] + 1

    return jax.vmap(solve)(state, probes)


def _sum(values: Array) -> Array:
    """Sum over all axes but the first."""
    return jnp.sum(values, axis=range(1, values.ndim))
