"""The checks of `vdm.verify`, one function per topic: known quantities, measured with the library's functions.

Equations are those of De Sousa Ribeiro & Glocker (2024).
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from scipy.special import expit, ndtr

from vdm import bounds, gaussian, likelihoods, oracles, samplers, schedules, timesteps
from vdm.bounds import GammaFn
from vdm.oracles import Oracle
from vdm.schedules import Schedule
from vdm.verify import float64

EPS = float(np.finfo(np.float32).eps)


class Check(NamedTuple):
    """One quantity, exact and measured: random with a standard error, or deterministic with a tolerance."""

    quantity: str
    exact: float
    measured: float
    stderr: float = 0.0
    tolerance: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the two agree within 3 standard errors plus the tolerance; NaN never does."""
        return bool(abs(self.measured - self.exact) <= 3 * self.stderr + self.tolerance)


# A density in one dimension: two unequal components that overlap, so that the denoiser is far from linear.
WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-0.6, 0.5]), np.array([0.1, 0.3])
GAMMA_0, GAMMA_1 = -6.0, 4.0

# Independent repetitions of a random measurement, whose spread gives its standard error.
REPLICATES = 64


def bound(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check that reconstruction + prior + diffusion is −log p(x) up to two known gaps, for every schedule: Eq. 3.60.

    For the exact denoiser the diffusion loss is KL(q(z₀|x)‖p₀) − KL(q(z₁|x)‖p₁), so the bound at x is
    −log p(x) + E_q[log p₁(z₁) − log N(z₁; 0, 1)] + E_q[log p(x|z₀) − log p_library(x|z₀)], with p(x|z₀) by Bayes' rule.
    The data are four images of two pixels with given probabilities; two of the images are one level apart.
    """
    levels, probabilities = 17, np.array([0.4, 0.3, 0.2, 0.1])
    images = np.array([[3, 12], [4, 12], [9, 2], [15, 8]]).reshape(4, 1, 2, 1)
    codes = (2 * images + 1) / levels - 1
    oracle = oracles.mixture(probabilities, codes, np.zeros(4))
    log_marginal, num = float64.log_marginal(oracle), _scaled(2**12, scale)

    @cache
    def exact(gamma_0: float, gamma_1: float) -> float:
        points, weights = float64.plane(2)
        u = points.reshape(-1, 1, 2, 1)
        total = -np.sum(probabilities * np.log(probabilities))
        for image, code, probability in zip(images, codes, probabilities, strict=True):
            z_1 = float64.alpha(gamma_1) * code + float64.sigma(gamma_1) * u
            gap_1 = log_marginal(z_1, gamma_1) - float64.total(float64.log_normal(z_1))
            z_0 = float64.alpha(gamma_0) * code + float64.sigma(gamma_0) * u
            log_q = float64.total(float64.log_normal(u) - np.log(float64.sigma(gamma_0)))
            bayes = np.log(probability) + log_q - log_marginal(z_0, gamma_0)
            gap_0 = bayes - float64.total(float64.decoder(z_0, gamma_0, levels, image))
            total += probability * np.sum(weights * (gap_1 + gap_0))
        return total / (2 * np.log(2))

    x = jnp.repeat(jnp.asarray(images), num, axis=0)

    def draw(key: PRNGKeyArray) -> tuple[Array, ...]:
        t_key, eps_key, eps_0_key = jax.random.split(key, 3)
        t = jax.vmap(lambda key: timesteps.stratified(key, num))(jax.random.split(t_key, 4)).ravel()
        return t, jax.random.normal(eps_key, x.shape), jax.random.normal(eps_0_key, x.shape)

    def measure(gamma: GammaFn, t: Array, eps: Array, eps_0: Array) -> Array:
        code = likelihoods.encode(x, levels)
        nats = bounds.reconstruction_loss(x, gamma(jnp.float32(0)), eps_0, levels)
        nats += bounds.prior_loss(code, gamma(jnp.float32(1)))
        nats += bounds.continuous_diffusion_loss(oracle.denoise, gamma, code, t, eps)
        return bounds.bits_per_dim(jnp.sum(jnp.asarray(probabilities, jnp.float32) * nats.reshape(4, num).mean(1)), 2)

    draws = jax.jit(jax.vmap(draw))
    for n, (name, gamma) in enumerate(_schedules(key, -8.0, 6.0, move_ends=True).items()):
        value = exact(float(gamma(jnp.float32(0))), float(gamma(jnp.float32(1))))
        estimate = _estimate(partial(measure, gamma), draws, jax.random.fold_in(key, n))
        yield Check(f"bound, {name}, bits/dim", value, *estimate)


def diffusion(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check that the diffusion loss of an x is KL(q(z₀|x)‖p₀) − KL(q(z₁|x)‖p₁), for a density: Eq. 3.134."""
    oracle, gamma, num = _mixture(), _gamma(schedules.cosine(GAMMA_0, GAMMA_1)), _scaled(2**13, scale)
    log_marginal, points = float64.log_marginal(oracle), (-0.6, 0.0, 0.9)

    def divergence(x: float, gamma: float) -> float:
        """The divergence KL(q(z_t|x) ‖ p_t)."""
        z = float64.alpha(gamma) * x + float64.sigma(gamma) * float64.U
        log_q = float64.log_normal(float64.U) - np.log(float64.sigma(gamma))
        return np.sum(float64.WEIGHTS_U * (log_q - log_marginal(z[:, None], gamma)))

    def draw(key: PRNGKeyArray) -> tuple[Array, ...]:
        t_key, eps_key = jax.random.split(key)
        return timesteps.stratified(t_key, num), jax.random.normal(eps_key, (num, 1))

    def measure(t: Array, eps: Array) -> Array:
        loss = partial(bounds.continuous_diffusion_loss, oracle.denoise, gamma, t=t, eps=eps)
        return jnp.stack([loss(x=jnp.full((num, 1), x, jnp.float32)).mean() for x in points])

    for x, mean, stderr in zip(points, *_estimate(measure, jax.jit(jax.vmap(draw)), key), strict=True):
        exact = divergence(x, GAMMA_0) - divergence(x, GAMMA_1)
        yield Check(f"diffusion loss at x = {x}, nats", exact, mean, stderr)


def conditional(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check that the exact denoiser of p(x|c) gives the bound −log p(x|c), and class probabilities by Bayes' rule.

    Two classes contain the same three images of two pixels, in different proportions. At γ₀ the images are 10 σ apart,
    and at γ₁ almost nothing is left of them, so the gaps are negligible. Both classes use the same times and noise,
    because the log-odds are a difference: −bound(x|1) + bound(x|0), plus the log-odds of p(c).
    """
    levels, gamma_0, gamma_1, prior = 17, -9.0, 12.0, np.array([0.7, 0.3])
    shares = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
    images = np.array([[3, 12], [4, 12], [9, 2]]).reshape(3, 1, 2, 1)
    codes = (2 * images + 1) / levels - 1
    classes = [oracles.mixture(each, codes, np.zeros(3)) for each in shares]
    gamma, num = _gamma(schedules.linear(gamma_0, gamma_1)), _scaled(2**12, scale)
    x = jnp.repeat(jnp.asarray(images), num, axis=0)

    def draw(key: PRNGKeyArray) -> tuple[Array, ...]:
        t_key, eps_key, eps_0_key = jax.random.split(key, 3)
        t = jax.vmap(lambda key: timesteps.stratified(key, num))(jax.random.split(t_key, 3)).ravel()
        return t, jax.random.normal(eps_key, x.shape), jax.random.normal(eps_0_key, x.shape)

    def measure(t: Array, eps: Array, eps_0: Array) -> Array:
        """Return rows of one number per image: the bound in nats given class 0 and class 1, and log-odds of class 1."""
        code = likelihoods.encode(x, levels)
        ends = bounds.reconstruction_loss(x, jnp.float32(gamma_0), eps_0, levels)
        ends += bounds.prior_loss(code, jnp.float32(gamma_1))
        losses = [bounds.continuous_diffusion_loss(each.denoise, gamma, code, t, eps) for each in classes]
        nats = [(ends + loss).reshape(3, num).mean(axis=1) for loss in losses]
        return jnp.stack([*nats, jnp.float32(np.log(prior[1] / prior[0])) + nats[0] - nats[1]])

    means, stderrs = _estimate(measure, jax.jit(jax.vmap(draw)), key)
    for c, of_class in enumerate(shares):
        # The mean over the images of the class, weighted by their proportions.
        exact = -float(np.sum(of_class * np.log(of_class)))
        stderr = float(np.linalg.norm(of_class * stderrs[c]))
        yield Check(f"bound given class {c}, nats", exact, float(of_class @ means[c]), stderr, tolerance=1e-3)
    for image in range(3):
        exact = float(np.log(prior[1] * shares[1, image] / (prior[0] * shares[0, image])))
        measured = float(means[2, image]), float(stderrs[2, image])
        yield Check(f"log-odds of image {image}'s classes, Bayes' rule", exact, *measured, tolerance=1e-3)


def discrete(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check that L_T = ½ Σ_i expm1(γ_t − γ_s) Var(ε|z_t), which decreases with T to L_∞ = ½ ∫ Var(ε|z) dγ.

    Eq. 3.105 and A.38; Eq. 3.111.

    Nothing is random here: all T steps are evaluated, and the mean over x and ε is a quadrature.
    """
    gamma = _gamma(schedules.linear(GAMMA_0, GAMMA_1))

    def measure(oracle: Oracle, x: np.ndarray, eps: np.ndarray, weights: np.ndarray) -> Callable[[int], float]:
        """Return the function T ↦ the library's loss, averaged over i in 1 … T and over the weighted points (x, ε)."""
        loss = jax.jit(partial(bounds.discrete_diffusion_loss, oracle.denoise, gamma))
        x, eps = (values.astype(np.float32)[:, None] for values in (x, eps))

        def total(num_steps: int) -> float:
            losses = [loss(x, np.full(len(x), i), eps, num_steps) for i in range(1, num_steps + 1)]
            return float(np.mean(losses, axis=0, dtype=np.float64) @ weights)

        return total

    def exact(variance: Callable[[np.ndarray], np.ndarray], num_steps: int) -> float:
        gammas = np.linspace(GAMMA_0, GAMMA_1, num_steps + 1)
        return 0.5 * np.sum(np.expm1(np.diff(gammas)) * variance(gammas[1:]))

    mean, var, span = 0.3, 0.36, GAMMA_1 - GAMMA_0

    def gaussian_variance(gamma: Any) -> Any:
        return expit(-gamma) * var / (expit(-gamma) * var + expit(gamma))

    # For Gaussian data the loss is quadratic in x and ε, so its mean over ±1 standard deviation is exact.
    signs = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    points = (mean + np.sqrt(var) * signs[:, 0], signs[:, 1], np.full(4, 0.25))
    total = measure(oracles.gaussian([mean], [var]), *points)
    steps = [2**n for n in range(10)]
    losses = {num_steps: total(num_steps) for num_steps in steps}
    limit = 0.5 * (span - np.log((var + np.exp(GAMMA_1)) / (var + np.exp(GAMMA_0))))
    for num_steps in (1, 2, 4, 16, 64, 256):
        value = exact(gaussian_variance, num_steps)
        # ε − ε̂ is as small as 0.08 at γ₁, where float32 has a relative error of 1e-6; allow ten times that.
        yield Check(f"L_T, Gaussian, T = {num_steps}, nats", value, losses[num_steps], tolerance=1e-5 * value)
    falls = [losses[n] > losses[2 * n] > limit for n in steps[:-1]]
    yield Check("L_T > L_2T > L_∞, Gaussian, T = 1, 2, … 256: number that hold", len(falls), sum(falls))
    # Euler–Maclaurin: L_T − L_∞ = C/T + O(1/T²). 2 D(2T) − D(T) with D = T (L_T − L_∞) cancels the next order; it
    # magnifies the rounding error of L_512, 1e-6, by 1024.
    constant = span / 4 * (gaussian_variance(GAMMA_1) - gaussian_variance(GAMMA_0) + 2 * limit)
    excess = {n: n * (losses[n] - limit) for n in (256, 512)}
    yield Check("(L_T − L_∞) T, Gaussian, T → ∞, nats", constant, 2 * excess[512] - excess[256], tolerance=2e-3)

    plane, weights = float64.plane(4)
    x = np.concatenate([mean + std * plane[:, 0] for mean, std in zip(MEANS, STDS, strict=True)])
    points = (x, np.tile(plane[:, 1], 2), np.outer(WEIGHTS, weights).ravel())
    total = measure(_mixture(), *points)
    losses = {num_steps: total(num_steps) for num_steps in steps[:6]}
    for num_steps in (1, 4, 16):
        value = exact(partial(float64.variance, _mixture()), num_steps)
        yield Check(f"L_T, mixture, T = {num_steps}, nats", value, losses[num_steps], tolerance=1e-5 * value)
    falls = [losses[n] > losses[2 * n] for n in steps[:5]]
    yield Check("L_T > L_2T, mixture, T = 1, 2, … 16: number that hold", len(falls), sum(falls))


def invariance(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check that ½ E[w γ'(t) ‖ε − ε̂‖²] = ½ ∫ w(γ) E‖ε − ε̂‖² dγ for all schedules with the same ends: §4.3, 4.90.

    w = 1 is the bound; w = sigmoid(2 + γ) is the sigmoid weighting of the ε-MSE.
    """
    oracle, num = _mixture(), _scaled(2**13, scale)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    gammas = GAMMA_0 + (GAMMA_1 - GAMMA_0) * (nodes + 1) / 2
    integrand = 0.5 * float64.variance(oracle, gammas) * weights * (GAMMA_1 - GAMMA_0) / 2
    exact = (np.sum(integrand), np.sum(integrand * expit(2 + gammas)))

    def draw(key: PRNGKeyArray) -> tuple[Array, ...]:
        x_key, t_key, eps_key = jax.random.split(key, 3)
        return oracle.sample(x_key, num), timesteps.stratified(t_key, num), jax.random.normal(eps_key, (num, 1))

    def measure(gamma: GammaFn, x: Array, t: Array, eps: Array) -> Array:
        loss = bounds.continuous_diffusion_loss(oracle.denoise, gamma, x, t, eps)
        return jnp.stack([loss.mean(), (jax.nn.sigmoid(2 + gamma(t)) * loss).mean()])

    draws = jax.jit(jax.vmap(draw))
    gamma_by_name = _schedules(key, GAMMA_0, GAMMA_1, move_ends=False)
    for n, name in enumerate(("linear", "cosine", "beta_linear", "learned_monotone")):
        means, stderrs = _estimate(partial(measure, gamma_by_name[name]), draws, jax.random.fold_in(key, n))
        for weighting, value, mean, stderr in zip(("1", "sigmoid"), exact, means, stderrs, strict=True):
            yield Check(f"weighted loss, w = {weighting}, {name}, nats", value, mean, stderr)


def ends(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check the losses −E log p(x|z₀) and KL(q(z₁|x) ‖ N(0, 1)), with the mean over z by quadrature."""
    for levels, gamma_0 in ((17, -6.0), (256, -9.0), (256, -13.3)):
        x = np.array([0, 1, levels // 2, levels - 1]).repeat(float64.U.size)[:, None]
        u = np.tile(float64.U, 4)[:, None]
        z_0 = float64.alpha(gamma_0) * ((2 * x + 1) / levels - 1) + float64.sigma(gamma_0) * u
        losses = jax.jit(partial(bounds.reconstruction_loss, gamma_0=gamma_0, levels=levels))(
            jnp.asarray(x), eps_0=jnp.asarray(u, jnp.float32)
        )
        exact, measured = (
            np.sum(np.tile(float64.WEIGHTS_U, 4) / 4 * np.asarray(values, np.float64))
            for values in (-float64.decoder(z_0, gamma_0, levels, x)[:, 0], losses)
        )
        # z₀ is of size 1 when it is rounded, and distances are measured in units of σ₀, which magnifies the error.
        tolerance = 8 * EPS / float64.sigma(gamma_0)
        yield Check(f"reconstruction, {levels} levels, γ₀ = {gamma_0}, nats", exact, measured, tolerance=tolerance)
    for gamma_1 in (0.5, 5.0):
        x = np.array([[0.8, -0.1]])
        z_1 = float64.alpha(gamma_1) * x + float64.sigma(gamma_1) * float64.U[:, None]
        log_ratio = float64.log_normal(float64.U)[:, None] - np.log(float64.sigma(gamma_1)) - float64.log_normal(z_1)
        loss = float(jax.jit(bounds.prior_loss)(jnp.asarray(x, jnp.float32), gamma_1)[0])
        # Two terms of size α₁² partly cancel, in each of two dimensions.
        tolerance = 8 * EPS * float64.alpha(gamma_1) ** 2
        yield Check(
            f"prior, γ₁ = {gamma_1}, nats", np.sum(float64.WEIGHTS_U[:, None] * log_ratio), loss, tolerance=tolerance
        )


def posterior(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check q(z_s|z_t, x) against conjugacy of N(α_s x, σ_s²) and N(z_t; α_{t|s} z_s, σ²_{t|s}): §3.4, A.3.

    γ_s and γ_t lie in [−13, 13], at distances from 26 down to that of neighboring float32 numbers. Errors are relative
    to the terms that are added, in units of the float32 epsilon, so their exact value is 0.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    low = rng.uniform(-13, 13, 4096)
    gamma_s = low.astype(np.float32)
    gamma_t = np.minimum(low + 10 ** rng.uniform(-6, 1.4, 4096), 13).astype(np.float32)
    gamma_t = np.maximum(gamma_t, np.nextafter(gamma_s, np.float32(99)))
    z, x, eps = rng.normal(size=(3, 4096, 1)).astype(np.float32)
    moments = jax.jit(gaussian.posterior)(z, x, gamma_s, gamma_t)
    moments_eps = jax.jit(gaussian.posterior_from_eps)(z, eps, gamma_s, gamma_t)
    transition = jax.jit(gaussian.transition)(gamma_s, gamma_t)

    s, t, z, x, eps = (values.astype(np.float64).reshape(-1, 1) for values in (gamma_s, gamma_t, z, x, eps))
    alpha_ts, var_ts = float64.transition(s, t)
    from_z, from_x, variance = float64.conjugate(s, t)
    # Substitute x = (z − σ ε)/α.
    from_eps = -from_x * float64.sigma(t) / float64.alpha(t)
    mean_eps = (from_z + from_x / float64.alpha(t)) * z + from_eps * eps
    size_eps = (from_z + from_x / float64.alpha(t)) * np.abs(z) + np.abs(from_eps * eps)
    for name, measured, exact, size in (
        ("q(z_t|z_s), signal", transition[0], alpha_ts, alpha_ts),
        ("q(z_t|z_s), variance", transition[1], var_ts, var_ts),
        ("posterior, mean", moments[0], from_z * z + from_x * x, from_z * np.abs(z) + from_x * np.abs(x)),
        ("posterior, variance", moments[1], variance, variance),
        ("posterior from ε, mean", moments_eps[0], mean_eps, size_eps),
        ("posterior from ε, variance", moments_eps[1], variance, variance),
    ):
        error = np.max(np.abs(np.asarray(measured, np.float64).reshape(-1, 1) - exact) / size) / EPS
        # Allow for a handful of roundings, and for errors of a few spacings in a device's exp and log1p.
        yield Check(f"{name}, largest error / EPS", 0.0, error, tolerance=16)


def ancestral(key: PRNGKeyArray, scale: float) -> Iterator[Check]:
    """Check z₀ from the ancestral sampler with the exact denoiser: §3.7.1.

    For Gaussian data, mean and variance obey a linear recursion that is exact for any number of steps. For the mixture,
    2000 steps of the cosine schedule are enough: propagating the density on a float64 grid (once, not here) gave a bias
    of −0.0007 in the fraction, 0.0001 in the mean and −0.002 in the square at 500 steps, and half of that at 1000. At
    2000 steps it is thus at most a quarter of a standard error.
    """

    def draw(key: PRNGKeyArray, oracle: Oracle, gamma: GammaFn, num_steps: int, num: int) -> np.ndarray:
        gammas = samplers.grid(gamma, num_steps)
        sample = jax.jit(partial(samplers.sample, denoise=oracle.denoise, sampler=samplers.ancestral(), shape=(num, 1)))
        return np.asarray(sample(key, gammas=gammas), np.float64)[:, 0]

    gaussian_key, mixture_key = jax.random.split(key)
    # γ₀ = −2 is so high that one step too few or too many is noticed.
    gamma_0, mean, std, num_steps = -2.0, 0.3, 0.6, 10
    exact_mean, exact_var = 0.0, 1.0
    gammas = np.linspace(GAMMA_1, gamma_0, num_steps + 1)
    for t, s in pairwise(gammas):
        from_z, from_x, variance = float64.conjugate(s, t)
        # By Bayes' rule, x̂ = var_x (mean/std² + α_t z/σ_t²).
        var_x = 1 / (1 / std**2 + np.exp(-t))
        slope = from_z + from_x * var_x * float64.alpha(t) / float64.sigma(t) ** 2
        exact_mean = slope * exact_mean + from_x * var_x * mean / std**2
        exact_var = slope**2 * exact_var + variance
    oracle = oracles.gaussian([mean], [std**2])
    z = draw(gaussian_key, oracle, _gamma(schedules.linear(gamma_0, GAMMA_1)), num_steps, _scaled(2**17, scale))
    yield _mean_of(f"sampler, Gaussian, T = {num_steps}, mean", exact_mean, z)
    yield _mean_of(f"sampler, Gaussian, T = {num_steps}, variance", exact_var, (z - exact_mean) ** 2)

    gamma_0, num_steps = -5.0, 2000
    gamma = _gamma(schedules.cosine(gamma_0, 8.0))
    z = draw(mixture_key, _mixture(), gamma, num_steps, _scaled(2**14, scale))
    means, variances = (
        float64.alpha(gamma_0) * MEANS,
        float64.alpha(gamma_0) ** 2 * STDS**2 + float64.sigma(gamma_0) ** 2,
    )
    left = np.sum(WEIGHTS * ndtr(-means / np.sqrt(variances)))
    yield _mean_of(f"sampler, mixture, T = {num_steps}, fraction below 0", left, z < 0)
    yield _mean_of(f"sampler, mixture, T = {num_steps}, mean", np.sum(WEIGHTS * means), z)
    yield _mean_of(f"sampler, mixture, T = {num_steps}, square", np.sum(WEIGHTS * (means**2 + variances)), z**2)


TOPICS = {
    function.__name__: function
    for function in (bound, diffusion, discrete, invariance, ends, posterior, ancestral, conditional)
}


def _mixture() -> Oracle:
    return oracles.mixture(WEIGHTS, MEANS[:, None], STDS)


def _schedules(key: PRNGKeyArray, gamma_0: float, gamma_1: float, move_ends: bool) -> dict[str, GammaFn]:
    """γ(t) by name; learned schedules are moved from their initial values, with `move_ends` their end points too."""

    def learned(schedule: Schedule) -> GammaFn:
        params = schedule.init(key)
        if move_ends:
            params["ends"] = {name: value + 0.5 for name, value in params["ends"].items()}
        if "shape" in params:
            # Reduce the weight of the straight line from nine tenths to one tenth; the rest are steps.
            params["shape"]["line"] -= 2 * np.log(9)
        return _gamma(schedule, params)

    fixed = {
        "linear": schedules.linear(gamma_0, gamma_1),
        "cosine": schedules.cosine(gamma_0, gamma_1),
        "shifted_cosine": schedules.shifted_cosine(gamma_0, gamma_1, shift=-2.0),
        "beta_linear": schedules.beta_linear(gamma_0, gamma_1),
    }
    return {name: _gamma(schedule) for name, schedule in fixed.items()} | {
        "learned_linear": learned(schedules.learned_linear(gamma_0, gamma_1)),
        "learned_monotone": learned(schedules.learned_monotone(gamma_0, gamma_1, hidden=3)),
    }


def _gamma(schedule: Schedule, params: Any = None) -> GammaFn:
    return partial(schedule.gamma, params or {})


def _estimate(
    measure: Callable[..., Array], draws: Callable[[PRNGKeyArray], tuple[Array, ...]], key: PRNGKeyArray
) -> tuple[Any, Any]:
    """(mean, standard error) of `measure(*draw)` over independent replicates; `draws` makes one draw per key.

    The times within a replicate are stratified and so not independent; only replicates show the error.
    """
    replicates = jax.jit(partial(jax.lax.map, lambda draw: measure(*draw)))
    values = np.asarray(replicates(draws(jax.random.split(key, REPLICATES))), np.float64)
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(REPLICATES)


def _mean_of(quantity: str, exact: float, values: np.ndarray) -> Check:
    """A check of the mean of independent values."""
    return Check(quantity, exact, values.mean(), values.std(ddof=1) / np.sqrt(values.size))


def _scaled(num: int, scale: float) -> int:
    return max(1, round(num * scale))
