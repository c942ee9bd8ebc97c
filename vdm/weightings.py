"""Weightings w(λ) of training objectives, as functions of the log-SNR λ = −γ, and the mixtures of ELBOs they imply.

w always multiplies the squared error of the noise under the ELBO's own measure, Eq. 4.113 and 4.116 of De Sousa Ribeiro
& Glocker (2024), whose equations are cited by number alone (Kingma et al. 2021, Eq. 19), whatever the network predicts
and however λ is drawn:

    L_w = ½ E_t[w(λ_t) (−dλ/dt) ‖ε − ε̂‖²] = ½ ∫ w(λ) E‖ε − ε̂‖² dλ,        λ from λ_min to λ_max.

So w ≡ 1 is the diffusion loss of the bound, and the same w means the same objective for every prediction, loss space
and noise schedule. An objective with weight r(λ) on ‖ε − ε̂‖² and its own distribution of times t has w ∝ r/(−dλ/dt).
On the cosine schedule, α = cos(πt/2) and σ = sin(πt/2), −dλ/dt = 2π cosh(λ/2). Below, "uniform t, cosine" means t
uniform on this schedule, untruncated. Constant factors only rescale the gradient: where w leaves one out, the docstring
says so.

A `monotone` weighting does not increase with λ. Its L_w is then an average of ELBOs of noisier data: `elbo_mixture`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

LogSNR = Float[ArrayLike, "*shape"]


class Weighting(NamedTuple):
    """A weighting w(λ): accurate in float32 for λ in [−20, 20], differentiable except at the kinks of its formula."""

    name: str
    """Name and parameters, as in a config."""
    weight: Callable[[LogSNR], Array]
    """λ -> w(λ) ≥ 0, with the shape and the floating dtype of λ."""
    monotone: bool
    """Whether w is non-increasing in λ on the whole real line: Eq. 4.148."""


def elbo() -> Weighting:
    """Weighting of the bound's own diffusion loss: w = 1, Eq. 4.112. Monotone.

    >>> float(elbo().weight(3.0))
    1.0
    """
    return Weighting("elbo", jnp.ones_like, monotone=True)


def simple() -> Weighting:
    """Weighting of E‖ε − ε̂‖² at uniform t, cosine: w = sech(λ/2) (Ho et al. 2020, Nichol & Dhariwal 2021).

    L_w = π E_t‖ε − ε̂‖², with the mean of Eq. 4.91. Not monotone: it peaks at λ = 0. On another schedule the same loss
    has w = 1/(−dλ/dt), Eq. 4.95.

    >>> float(simple().weight(0.0))
    1.0
    """
    return Weighting("simple", _sech_half, monotone=False)


def sigmoid(k: float = 2.0) -> Weighting:
    """Sigmoid weighting w = sigmoid(k − λ) (Kingma & Gao 2023; Hoogeboom et al. 2024). Monotone.

    It approaches 1 at high noise (λ → −∞) and e^{k−λ} at low noise. As a weight on ‖x − x̂‖² = e^{−λ} ‖ε − ε̂‖² it is
    e^λ sigmoid(k − λ). Raises ValueError unless k is finite.

    >>> float(sigmoid(2.0).weight(2.0))
    0.5
    """
    if not np.isfinite(k):
        raise ValueError(f"k={k}: must be finite")
    return Weighting(f"sigmoid({k})", lambda lam: jax.nn.sigmoid(k - lam), monotone=True)


def edm(p_mean: float = -1.2, p_std: float = 1.2, sigma_data: float = 0.5) -> Weighting:
    """Weighting of EDM (Karras et al. 2022): w = N(λ; −2 p_mean, (2 p_std)²) (e^{−λ} + sigma_data²). Not monotone.

    With the default parameters it peaks at λ = −3.31. EDM draws log σ ~ N(p_mean, p_std²) for z = x + σ ε and weights
    ‖x − D‖² by (σ² + sigma_data²)/(σ sigma_data)². With λ = −2 log σ and ‖x − D‖² = e^{−λ} ‖ε − ε̂‖², this objective is
    (2/sigma_data²) L_w. Raises ValueError unless all parameters are finite, and `p_std` and `sigma_data` above 0.

    >>> weighting = edm()
    >>> bool(weighting.weight(-3.31) > weighting.weight(-5.0)), weighting.monotone
    (True, False)
    """
    _check_positive(p_std=p_std, sigma_data=sigma_data)
    if not np.isfinite(p_mean):
        raise ValueError(f"p_mean={p_mean}: must be finite")
    center, std = -2 * p_mean, 2 * p_std

    def weight(lam: LogSNR) -> Array:
        normal = jnp.exp(-0.5 * jnp.square((lam - center) / std)) / (std * np.sqrt(2 * np.pi))
        return normal * (_inverse_snr(lam) + sigma_data**2)

    return Weighting(f"edm({p_mean}, {p_std}, {sigma_data})", weight, monotone=False)


def edm_monotonic(p_mean: float = -1.2, p_std: float = 1.2, sigma_data: float = 0.5) -> Weighting:
    """EDM's weighting, held at its maximum for λ below its peak (Kingma & Gao 2023). Monotone.

    Its derivative is continuous. Raises ValueError for parameters that `edm` refuses, and for those that give it two
    peaks.

    >>> weighting = edm_monotonic()
    >>> bool(weighting.weight(-3.5) == weighting.weight(-9.0)), weighting.monotone
    (True, True)
    """
    plain = edm(p_mean, p_std, sigma_data)
    peak = _edm_peak(p_mean, p_std, sigma_data)
    name = f"edm_monotonic({p_mean}, {p_std}, {sigma_data})"
    return Weighting(name, lambda lam: plain.weight(jnp.maximum(lam, peak)), monotone=True)


def min_snr(gamma: float = 5.0) -> Weighting:
    """Min-SNR weighting (Hang et al. 2023): min(SNR, gamma) on ‖x − x̂‖² at uniform t, cosine. Not monotone.

    w = sech(λ/2) min(1, gamma e^{−λ}) and L_w = π E_t[min(SNR, gamma) ‖x − x̂‖²]. For every gamma, w rises up to
    λ = min(0, log gamma). `gamma` is an SNR, not −log SNR. Raises ValueError unless it is finite and above 0.

    >>> float(min_snr(5.0).weight(0.0))
    1.0
    """
    _check_positive(gamma=gamma)
    return Weighting(
        f"min_snr({gamma})", lambda lam: _sech_half(lam) * jnp.minimum(1.0, gamma * _inverse_snr(lam)), monotone=False
    )


def truncated_snr() -> Weighting:
    """Truncated-SNR weighting (Salimans & Ho 2022): max(SNR, 1) on ‖x − x̂‖² at uniform t, cosine. Monotone.

    w = sech(λ/2) max(1, e^{−λ}) and L_w = π E_t[max(SNR, 1) ‖x − x̂‖²] = π E_t max(‖x − x̂‖², ‖ε − ε̂‖²). It has a kink
    at λ = 0.

    >>> float(truncated_snr().weight(0.0))
    1.0
    """
    return Weighting("truncated_snr", lambda lam: _sech_half(lam) * jnp.maximum(1.0, _inverse_snr(lam)), monotone=True)


def p2(gamma: float = 1.0) -> Weighting:
    """P2 weighting (Choi et al. 2022, k = 1): 1/(1 + SNR)^gamma on ‖ε − ε̂‖² at uniform t, cosine. Not monotone.

    w = sech(λ/2)/(1 + e^λ)^gamma and L_w = π E_t[‖ε − ε̂‖²/(1 + SNR)^gamma], which is `simple` for gamma = 0. For every
    gamma, w rises as e^{λ/2} at high noise. Raises ValueError unless 0 ≤ gamma < ∞.

    >>> float(p2(gamma=1.0).weight(0.0))
    0.5
    """
    if not 0 <= gamma < np.inf:
        raise ValueError(f"gamma={gamma}: must be 0 or more and finite")
    return Weighting(
        f"p2({gamma})", lambda lam: _sech_half(lam) * jnp.exp(-gamma * jax.nn.softplus(lam)), monotone=False
    )


def flow_matching() -> Weighting:
    """Weighting of flow matching (Lipman et al. 2023): E‖u − û‖² at uniform t of z = (1 − t) x + t ε. Monotone.

    w = e^{−λ/2} and L_w = E_t‖u − û‖² exactly, because −dλ/dt = 2/(t (1−t)) and u − û = (ε − ε̂)/(1 − t) on this path.

    >>> float(flow_matching().weight(0.0))
    1.0
    """
    return Weighting("flow_matching", lambda lam: jnp.sqrt(_inverse_snr(lam)), monotone=True)


def v_mse() -> Weighting:
    """Weighting of the v loss E‖v − v̂‖² (Salimans & Ho 2022) at uniform t, cosine: w = e^{−λ/2}. Monotone.

    L_w = (π/2) E_t‖v − v̂‖², because v − v̂ = (ε − ε̂)/α. This is the w of `flow_matching`, and so the same objective.

    >>> float(v_mse().weight(0.0))
    1.0
    """
    return Weighting("v_mse", lambda lam: jnp.sqrt(_inverse_snr(lam)), monotone=True)


class ElboMixture(NamedTuple):
    """A distribution of noise levels on [λ_min, λ_max]: a density, and a point mass at λ_max."""

    total: Array
    """w(λ_min): L_w is this factor times the expected ELBO."""
    atom: Array
    """w(λ_max)/w(λ_min): the probability of λ_max itself, i.e. of the ELBO of the data without added noise."""
    density: Callable[[LogSNR], Array]
    """λ -> −w'(λ)/w(λ_min) inside the range and 0 outside, without the point mass: it integrates to 1 − atom."""
    cdf: Callable[[LogSNR], Array]
    """λ -> probability of noise levels up to λ: 1 − w(λ)/w(λ_min) inside, then a jump of `atom` to 1 at λ_max."""


def elbo_mixture(weighting: Weighting, lambda_min: float, lambda_max: float) -> ElboMixture:
    """Return the distribution of noise levels under which a monotone weighted objective is an expected ELBO: §4.7.

    Let L(λ) = ½ ∫_{λ_min}^λ E‖ε − ε̂‖² dλ' be the diffusion loss of a model of data noised to log-SNR λ, Eq. 4.132,
    which is the expected −ELBO of z_λ up to terms without parameters (Eq. 4.158). Integrating L_w by parts, Eq. 4.145,

        L_w = w(λ_max) L(λ_max) + ∫ −w'(λ) L(λ) dλ = total · E_{λ ~ mixture}[L(λ)],

    the expectation of Eq. 4.152. As a density over time it is p_w(t) = density(λ_t) (−dλ/dt), Eq. 4.150, corrected,
    with the point mass at t = 0 and the distribution function w(λ_t)/w(λ_1). The paper treats w(λ_max) L(λ_max) as a
    small constant, Eq. 4.146, and requires w(λ_max) = 0, Eq. 4.149. Here this term is kept, so that L_w is exact for
    every w; for `elbo` the point mass is the whole distribution.

    Raises ValueError for a weighting that is not monotone, and unless lambda_min < lambda_max are finite.

    >>> mixture = elbo_mixture(sigmoid(2.0), -5.0, 13.3)
    >>> float(mixture.cdf(13.3))
    1.0
    """
    if not weighting.monotone:
        raise ValueError(
            f"weighting={weighting.name}: must be monotone (non-increasing in λ); where it rises −w'(λ) is negative, "
            "not a density over noise levels: the objective would maximize the loss of those ELBOs"
        )
    if not -np.inf < lambda_min < lambda_max < np.inf:
        raise ValueError(f"lambda_min={lambda_min}, lambda_max={lambda_max}: must be finite and increasing")
    at_min, at_max = (weighting.weight(jnp.asarray(end, float)) for end in (lambda_min, lambda_max))

    def density(lam: LogSNR) -> Array:
        lam = jnp.asarray(lam)
        w, slope = jax.jvp(weighting.weight, (lam,), (jnp.ones_like(lam),))
        inside = (lam >= lambda_min) & (lam <= lambda_max)
        # Where w is flat, rounding of its slope, a difference of equal terms, must not make the density negative.
        return jnp.where(inside, jnp.maximum(-slope, 0) / at_min.astype(w.dtype), 0)

    def cdf(lam: LogSNR) -> Array:
        lam, w = jnp.asarray(lam), weighting.weight(lam)
        inside = jnp.clip(1 - w / at_min.astype(w.dtype), 0, 1)
        return jnp.where(lam >= lambda_max, 1, jnp.where(lam > lambda_min, inside, 0))

    return ElboMixture(at_min, at_max / at_min, density, cdf)


def _sech_half(lam: LogSNR) -> Array:
    """sech(λ/2) = 2ασ."""
    return 1 / jnp.cosh(jnp.asarray(lam) / 2)


def _inverse_snr(lam: LogSNR) -> Array:
    """e^{−λ} = σ²/α²."""
    return jnp.exp(-jnp.asarray(lam))


def _edm_peak(p_mean: float, p_std: float, sigma_data: float) -> float:
    """The λ at which EDM's weighting peaks: the zero of d log w/dλ = (center − λ)/std² − 1/(1 + sigma_data² e^λ).

    The second term is between 0 and 1, so the peak is between center − std² and center.
    """
    center, var = -2 * p_mean, (2 * p_std) ** 2
    lam = np.linspace(center - var - 1, center, 100_001)
    slope = (center - lam) / var - 1 / (1 + sigma_data**2 * np.exp(lam))
    (falls,) = np.nonzero((slope[:-1] > 0) & (slope[1:] <= 0))
    if len(falls) != 1:
        raise ValueError(f"edm({p_mean}, {p_std}, {sigma_data}) has {len(falls)} peaks: must have exactly one")
    k = falls[0]
    return float(lam[k] + (lam[k + 1] - lam[k]) * slope[k] / (slope[k] - slope[k + 1]))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name}={value}: must be above 0 and finite")
