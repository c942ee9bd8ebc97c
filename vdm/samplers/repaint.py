"""RePaint: a sampler that keeps the known part of an image, drawn anew at every noise level."""

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
    """Where `known`, z_s is drawn from q(z_s|x), elsewhere by `sampler` (Lugmayr et al. 2022, Alg. 1, jumps of 1).

    The unknown part of a step sees the known one only by its noisy z_t. Each of the `resampling` rounds but the last
    goes back up, z_t ~ q(z_t|z_s), so that the two grow into each other; the paper takes 10. It is exact for unknown
    parts that are independent of the known one. Otherwise more rounds come nearer, and no number of them gets there:
    at every noise level a new noisy copy of x says less than x. At `gamma_0`, the end of the grid, the known part is
    α₀ x to the bit; x is taken for exact, so noise in it stays.

    `resampling` times the calls of `sampler`, stochastic, from γ = ∞ too; a multistep sampler's memory is that of the
    last round. Raises ValueError unless resampling ≥ 1 and the shapes fit, and for what is no `Sampler`.

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
