"""The probability-flow ODE with adaptive steps (diffrax): deterministic samples, latent codes, exact log-likelihoods.

For fixed x and ε, z = α x + σ ε moves by dz/dγ = ½ α σ (α ε − σ x), as dα/dγ = −½ α σ² and dσ/dγ = ½ σ α². With the
model's x̂ and ε̂ in their place this is the probability-flow ODE of Song et al. (2021),

    dz/dγ = f(z, γ) = ½ α σ v̂,   v̂ = α ε̂ − σ x̂,

in log-SNR instead of time: there is no division, f vanishes at both ends, and only the end points of the schedule
matter. With the exact denoiser, the flow carries p_{γ₁} to p_γ at every γ. With a learned denoiser it *defines* a
density p(z₀), namely N(0, I) at γ₁ carried down to γ₀; d log p(z)/dγ = −div f along the flow (Chen et al. 2018), so

    log p(z₀) = log N(z₁; 0, I) + ∫_{γ₀}^{γ₁} div f(z, γ) dγ.

This is not the model whose bound `vdm.bounds` computes: their −log p(x) differ unless ε̂ is exact.

`tolerance` limits the error of each step per data dimension: the error of z in units of σ(γ), and that of log p in
nats. An error δ of z changes log p by ε̂ δ/σ, so a tolerance on z itself would be far too loose at γ₀ or far too tight
at γ₁. The error of log p is then a few times `tolerance` per dimension if the solve takes some tens of steps, down to
1e-5 in float32. It is larger for a rough network that needs hundreds of steps or more; to find out, solve again at a
tenth of the tolerance. Every example has its own steps. The other examples of its batch change its result only by
rounding, and by up to the solver's error where rounding decides whether a step is accepted; the batch takes as long as
its slowest example.

Raises ValueError for a tolerance that is not positive, for γ that are not scalars, and for `max_steps` below 1. The
result is NaN for an example that does not reach the end within `max_steps` steps, or whose steps fall below `MIN_STEP`
(e.g. because the network's output is not finite). All functions are pure and may be jitted, but not differentiated. The
network should compute in float32: the step control takes the rounding of TF32 or bfloat16 for roughness.
"""

from vdm.probability_flow.flow import LogLikelihood, Solution, encode, log_likelihood, rademacher, sample, velocity
from vdm.probability_flow.integers import DiscreteBound, gaussian_bound, importance_weighted, uniform_bound
from vdm.probability_flow.solver import MIN_STEP

__all__ = [
    "MIN_STEP",
    "DiscreteBound",
    "LogLikelihood",
    "Solution",
    "encode",
    "gaussian_bound",
    "importance_weighted",
    "log_likelihood",
    "rademacher",
    "sample",
    "uniform_bound",
    "velocity",
]
