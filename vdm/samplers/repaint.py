"""RePaint: a sampler for inpainting that redraws the known part of an image at every noise level."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from vdm import gaussian
from vdm.keys import Keys, folded, normal_per_image
from vdm.predictions import Both
from vdm.samplers import options
from vdm.samplers.loop import Memory, Sampler, Step, check_sampler


def repaint(
    sampler: Sampler,
    x: Float[Array, "batch *data"],
    known: Bool[Array, "*data"],
    resampling: int = 1,
    gamma_0: ArrayLike = -jnp.inf,
) -> Sampler:
    """Draw z_s from q(z_s|x) where `known`, and with `sampler` elsewhere (Lugmayr et al. 2022, Alg. 1, jumps of 1).

    The unknown part of an image sees the known part only through its noisy z_t. To harmonize the two, every one of the
    `resampling` rounds except the last goes back up with z_t ~ q(z_t|z_s); the paper uses 10 rounds. The method is
    exact if the unknown part is independent of the known one. Otherwise more rounds come closer, but no number of them
    is exact: at every noise level, a new noisy copy of x carries less information than x. At `gamma_0`, the end of the
    grid, the known part is exactly α₀ x; x is taken to be exact, so any noise in it stays.

    Stochastic, with `resampling` times the network calls of `sampler`; it can also start from γ = ∞. The memory of a
    multistep sampler is that of the last round. Raises ValueError unless resampling ≥ 1 and the shapes fit, and if
    `sampler` is not a `Sampler`.

    >>> from vdm import samplers
    >>> sampler = repaint(samplers.ddim(), jnp.ones((4, 2)), jnp.array([True, False]), gamma_0=-5.0)
    >>> gammas = jnp.linspace(5.0, -5.0, 11)
    >>> z_0 = samplers.sample(jax.random.key(0), lambda z, gamma: 0.5 * z, sampler, gammas, (4, 2))
    >>> bool(jnp.all(z_0[:, 0] == gaussian.alpha(-5.0)))
    True
    """
    check_sampler("sampler", sampler)
    options.check_count("resampling", resampling)
    if x.shape[1:] != known.shape:
        raise ValueError(f"known has shape {known.shape}: must be {x.shape[1:]}, that of an image of x")

    def step(keys: Keys, denoise: Both, z: Array, memory: Memory, gamma_t: Array, gamma_s: Array) -> Step:
        alpha_ts, var_ts = gaussian.transition(gamma_s, gamma_t)
        std_s = jnp.where(gamma_s > gamma_0, gaussian.sigma(gamma_s), 0)

        def round_(n: Array, carry: tuple[Array, Step]) -> tuple[Array, Step]:
            own, of_known, of_return = (folded(keys, 3 * n + k) for k in range(3))
            result = sampler.step(own, denoise, carry[0], memory, gamma_t, gamma_s)
            given = gaussian.alpha(gamma_s) * x + std_s * normal_per_image(of_known, z.shape)
            z_s = jnp.where(known[None], given, result.z)
            z_t = alpha_ts * z_s + jnp.sqrt(var_ts) * normal_per_image(of_return, z.shape)
            return z_t, result._replace(z=z_s)

        start = Step(z, jnp.zeros_like(z), memory)
        return jax.lax.fori_loop(0, resampling, round_, (z, start))[1]

    return Sampler(init=sampler.init, step=step, calls=resampling * sampler.calls)
