"""Outcomes of compare.py --by=family that are made up."""

from vdm.comparisons.families.members import HVAE, VAE, VDM, Member
from vdm.comparisons.families.table import FamilyOutcome
from vdm.evaluation.metrics.mmd import mmd

METRICS = {"mmd": mmd()}


def outcome(member: Member, seed: int, bits_per_dim: float, **changes) -> FamilyOutcome:
    depth = member.depth
    latent = member.family != VDM
    return FamilyOutcome(
        member,
        seed,
        bits_per_dim,
        reconstruction=1.0,
        rates=None if depth is None else (0.25,) * depth,
        active=(2,) * (depth or 1) if latent else None,
        importance=None if depth is None else bits_per_dim - 0.125,
        from_prior={"mmd": 2e-3},
        from_aggregate={"mmd": 1e-3} if latent else None,
        hole={"kl": 0.5 if latent else 1e-5, "mmd": 0.125, "share": 0.25},
        parameters=1234,
        seconds=12.0,
        **changes,
    )


def outcomes() -> list[FamilyOutcome]:
    three = [Member(VAE, "top_down", 1), Member(HVAE, "bottom_up", 2), Member(VDM, "top_down", None)]
    return [outcome(member, seed, 2.0 + seed) for seed in (0, 1) for member in three]
