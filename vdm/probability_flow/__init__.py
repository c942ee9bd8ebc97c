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
wrong by a few `tolerance` a dimension where the steps are some tens, in float32 down to 1e-5; of a rough network, which
takes hundreds or more, by more: a second solve at a tenth of the tolerance tells. Every example has steps of its own,
whatever else is in its batch, which changes the result by roundings, and by the error of the solver where these decide
whether a step is accepted; the batch takes as long as its slowest. Tolerances that are not above 0, γ that are no
scalars and less than one step are ValueErrors. An example that is not at its end after `max_steps` steps, or
whose steps fall below `MIN_STEP` (as with a network that is not finite), is NaN. Everything is pure and may be jitted,
but not differentiated. A network should compute in float32: to the step control, its rounding in TF32 or bfloat16 looks
like roughness.
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
