"""Weightings w(λ) of the training objectives, as functions of the log-SNR λ = −γ, and the ELBOs they are averages of.

w is always relative to the squared error of the noise under the ELBO's own measure, Eq. 4.113 and 4.116 of De Sousa
Ribeiro & Glocker (2024), of whom bare numbers of equations are (Kingma et al. 2021, Eq. 19), whatever the network
predicts and however λ is drawn:

    L_w = ½ E_t[w(λ_t) (−dλ/dt) ‖ε − ε̂‖²] = ½ ∫ w(λ) E‖ε − ε̂‖² dλ,        λ from λ_min to λ_max.

So w ≡ 1 is the diffusion loss of the bound, and the same w means the same objective for every prediction, loss space
and noise schedule. An objective with weight r(λ) on ‖ε − ε̂‖² and times t of its own has w ∝ r/(−dλ/dt). On the cosine
schedule, α = cos(πt/2) and σ = sin(πt/2), −dλ/dt = 2π cosh(λ/2): "uniform t" below is uniform on all of it. Constants
are left out of w where a docstring says so, for they only rescale the gradient.

A `monotone` weighting does not increase with λ. Then L_w is an average of ELBOs of noisier data: `elbo_mixture`.
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
    """One w(λ): accurate in float32 for λ in [−20, 20], differentiable but for a kink where its formula has one."""

    name: str
    """As a config has it, with its parameters."""
    weight: Callable[[LogSNR], Array]
    """λ -> w(λ) ≥ 0, with the shape and the floating dtype of λ."""
    monotone: bool
    """Whether w is non-increasing in λ on the whole line: Eq. 4.148."""


def elbo() -> Weighting:
    """w = 1: the diffusion loss of the bound itself, Eq. 4.112. Monotone.

    >>> float(elbo().weight(3.0))
    1.0
    """
    return Weighting("elbo", jnp.ones_like, monotone=True)


def simple() -> Weighting:
    """w = sech(λ/2): E‖ε − ε̂‖² at uniform t of the cosine schedule (Ho et al. 2020, Nichol & Dhariwal 2021).

    L_w = π E_t‖ε − ε̂‖², with the mean of Eq. 4.91. Not monotone: peak at 0. On another schedule the same loss has
    w = 1/(−dλ/dt), Eq. 4.95.

    >>> float(simple().weight(0.0))
    1.0
    """
    return Weighting("simple", _sech_half, monotone=False)


def sigmoid(k: float = 2.0) -> Weighting:
    """w = sigmoid(k − λ) (Kingma & Gao 2023; Hoogeboom et al. 2024): 1 in heavy noise, e^{k−λ} in little. Monotone.

    On ‖x − x̂‖² = e^{−λ} ‖ε − ε̂‖² the same weighting is e^λ sigmoid(k − λ). Raises ValueError unless k is finite.

    >>> float(sigmoid(2.0).weight(2.0))
    0.5
    """
    if not np.isfinite(k):
        raise ValueError(f"k={k}: must be finite")
    return Weighting(f"sigmoid({k})", lambda lam: jax.nn.sigmoid(k - lam), monotone=True)


def edm(p_mean: float = -1.2, p_std: float = 1.2, sigma_data: float = 0.5) -> Weighting:
    """w = N(λ; −2 p_mean, (2 p_std)²) (e^{−λ} + sigma_data²) (Karras et al. 2022). Not monotone: peak at −3.31.

    They draw log σ ~ N(p_mean, p_std²) of z = x + σ ε and weight ‖x − D‖² by (σ² + sigma_data²)/(σ sigma_data)². With
    λ = −2 log σ and ‖x − D‖² = e^{−λ} ‖ε − ε̂‖² their objective is (2/sigma_data²) L_w. Raises ValueError unless
    all are finite, `p_std` and `sigma_data` above 0.

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
    """`edm` held at its maximum below its peak (Kingma & Gao 2023). Monotone, with a continuous derivative.

    Raises ValueError for what `edm` refuses, and for parameters that give it two peaks.

    >>> weighting = edm_monotonic()
    >>> bool(weighting.weight(-3.5) == weighting.weight(-9.0)), weighting.monotone
    (True, True)
    """
    plain = edm(p_mean, p_std, sigma_data)
    peak = _edm_peak(p_mean, p_std, sigma_data)
    name = f"edm_monotonic({p_mean}, {p_std}, {sigma_data})"
    return Weighting(name, lambda lam: plain.weight(jnp.maximum(lam, peak)), monotone=True)


def min_snr(gamma: float = 5.0) -> Weighting:
    """w = sech(λ/2) min(1, gamma e^{−λ}): min(SNR, gamma) on ‖x − x̂‖² at uniform t, cosine (Hang et al. 2023).

    L_w = π E_t[min(SNR, gamma) ‖x − x̂‖²]. Not monotone for any gamma: it rises up to λ = min(0, log gamma). `gamma` is
    an SNR, not −log SNR. Raises ValueError unless it is above 0.

    >>> float(min_snr(5.0).weight(0.0))
    1.0
    """
    _check_positive(gamma=gamma)
    return Weighting(
        f"min_snr({gamma})", lambda lam: _sech_half(lam) * jnp.minimum(1.0, gamma * _inverse_snr(lam)), monotone=False
    )


def truncated_snr() -> Weighting:
    """w = sech(λ/2) max(1, e^{−λ}): max(SNR, 1) on ‖x − x̂‖² at uniform t, cosine (Salimans & Ho 2022). Monotone.

    L_w = π E_t[max(SNR, 1) ‖x − x̂‖²] = π E_t max(‖x − x̂‖², ‖ε − ε̂‖²). A kink at λ = 0.

    >>> float(truncated_snr().weight(0.0))
    1.0
    """
    return Weighting("truncated_snr", lambda lam: _sech_half(lam) * jnp.maximum(1.0, _inverse_snr(lam)), monotone=True)


def p2(gamma: float = 1.0) -> Weighting:
    """w = sech(λ/2)/(1 + e^λ)^gamma: 1/(1 + SNR)^gamma on ‖ε − ε̂‖² at uniform t, cosine (P2, Choi et al. 2022, k = 1).

    L_w = π E_t[‖ε − ε̂‖²/(1 + SNR)^gamma]; `simple` with gamma = 0. Not monotone for any gamma: in heavy noise it rises
    as e^{λ/2}. Raises ValueError unless 0 ≤ gamma < ∞.

    >>> float(p2(gamma=1.0).weight(0.0))
    0.5
    """
    if not 0 <= gamma < np.inf:
        raise ValueError(f"gamma={gamma}: must be 0 or more and finite")
    return Weighting(
        f"p2({gamma})", lambda lam: _sech_half(lam) * jnp.exp(-gamma * jax.nn.softplus(lam)), monotone=False
    )


def flow_matching() -> Weighting:
    """w = e^{−λ/2}: E‖u − û‖² at uniform t of the path z = (1 − t) x + t ε (Lipman et al. 2023). Monotone.

    L_w = E_t‖u − û‖² exactly, for there −dλ/dt = 2/(t (1−t)) and u − û = (ε − ε̂)/(1 − t).

    >>> float(flow_matching().weight(0.0))
    1.0
    """
    return Weighting("flow_matching", lambda lam: jnp.sqrt(_inverse_snr(lam)), monotone=True)


def v_mse() -> Weighting:
    """w = e^{−λ/2}: E‖v − v̂‖² at uniform t of the cosine schedule (Salimans & Ho 2022). Monotone.

    L_w = (π/2) E_t‖v − v̂‖², for v − v̂ = (ε − ε̂)/α. The same w as `flow_matching`: the same objective.

    >>> float(v_mse().weight(0.0))
    1.0
    """
    return Weighting("v_mse", lambda lam: jnp.sqrt(_inverse_snr(lam)), monotone=True)


class ElboMixture(NamedTuple):
    """A distribution over noise levels in [λ_min, λ_max], with a density and one point mass, which sits at λ_max."""

    total: Array
    """w(λ_min): L_w is this many times the expectation."""
    atom: Array
    """w(λ_max)/w(λ_min), the probability of λ_max itself: of the ELBO of the data as it is."""
    density: Callable[[LogSNR], Array]
    """λ -> −w'(λ)/w(λ_min) inside the range, else 0, without the point mass: its integral is 1 − atom."""
    cdf: Callable[[LogSNR], Array]
    """λ -> probability of noise levels up to λ: 1 − w(λ)/w(λ_min), a jump of `atom` at λ_max, and 1 from there on."""


def elbo_mixture(weighting: Weighting, lambda_min: float, lambda_max: float) -> ElboMixture:
    """The distribution of noise levels whose expected ELBO a monotone weighted objective is: §4.7.

    Let L(λ) = ½ ∫_{λ_min}^λ E‖ε − ε̂‖² dλ' be the diffusion loss of a model of data with log-SNR λ, Eq. 4.132, the
    expected −ELBO of z_λ up to terms without parameters (Eq. 4.158). Integrating L_w by parts, Eq. 4.145,

        L_w = w(λ_max) L(λ_max) + ∫ −w'(λ) L(λ) dλ = total · E_{λ ~ mixture}[L(λ)].

    the expectation of Eq. 4.152. In time its density is p_w(t) = density(λ_t) (−dλ/dt), Eq. 4.150, corrected, with the
    point mass at t = 0 and the distribution function w(λ_t)/w(λ_1). The specification counts w(λ_max) L(λ_max) as a
    small constant, Eq. 4.146, and wants w(λ_max) = 0, Eq. 4.149; here it is kept, so L_w is exact for every w; for
    `elbo` the point mass is all there is.

    Raises ValueError for a weighting that is not monotone, and unless lambda_min < lambda_max are finite.

    >>> mixture = elbo_mixture(sigmoid(2.0), -5.0, 13.3)
    >>> float(mixture.cdf(13.3))
    1.0
    """
    if not weighting.monotone:
        raise ValueError(
            f"weighting={weighting.name}: must be monotone (non-increasing in λ); where it rises −w'(λ) is negative, "
            "no density over noise levels: the objective would maximise the loss of those ELBOs"
        )
    if not -np.inf < lambda_min < lambda_max < np.inf:
        raise ValueError(f"lambda_min={lambda_min}, lambda_max={lambda_max}: must be finite and increasing")
    at_min, at_max = (weighting.weight(jnp.asarray(end, float)) for end in (lambda_min, lambda_max))

    def density(lam: LogSNR) -> Array:
        lam = jnp.asarray(lam)
        w, slope = jax.jvp(weighting.weight, (lam,), (jnp.ones_like(lam),))
        inside = (lam >= lambda_min) & (lam <= lambda_max)
        # Where w is flat its slope is a difference of equal terms, whose rounding must not make a density negative.
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
    """The λ of EDM's maximum: where d log w/dλ = (center − λ)/std² − 1/(1 + sigma_data² e^λ) changes its sign.

    The second term is between 0 and 1, so that is between center − std² and center.
    """
    center, var = -2 * p_mean, (2 * p_std) ** 2
    lam = np.linspace(center - var - 1, center, 100_001)
    slope = (center - lam) / var - 1 / (1 + sigma_data**2 * np.exp(lam))
    (falls,) = np.nonzero((slope[:-1] > 0) & (slope[1:] <= 0))
    if len(falls) != 1:
        raise ValueError(f"edm({p_mean}, {p_std}, {sigma_data}) has {len(falls)} peaks: must have one to be held at")
    k = falls[0]
    return float(lam[k] + (lam[k + 1] - lam[k]) * slope[k] / (slope[k] - slope[k + 1]))


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name}={value}: must be above 0 and finite")
