"""The models that are compared, and the config of each."""

from dataclasses import replace
from typing import NamedTuple

from vdm.comparisons.families.settings import FamiliesSettings
from vdm.config import Config
from vdm.predecessors.config import LatentObjectiveConfig, ModelConfig, PredecessorConfig

VAE, HVAE, VDM = "VAE", "HVAE", "VDM"


class Member(NamedTuple):
    """A model, whatever its seed."""

    family: str
    inference: str
    """bottom_up or top_down for a hierarchical VAE; top_down for all others, where the two are the same."""
    depth: int | None
    """Layers T; None: ∞."""

    def __str__(self) -> str:
        how = f", {self.inference.replace('_', '-')}" if self.family == HVAE else ""
        return f"{self.family}{how}, T = {'∞' if self.depth is None else self.depth}"

    @property
    def folder(self) -> str:
        """Name of its runs' folders, without the seed."""
        how = f"_{self.inference}" if self.family == HVAE else ""
        return f"{self.family.lower()}{how}-T_{'inf' if self.depth is None else self.depth}"


def members(settings: FamiliesSettings) -> list[Member]:
    """Return the VAE, hierarchical VAEs by depth and inference, and VDMs with as many steps and in continuous time.

    >>> [str(each) for each in members(FamiliesSettings(depths=(2,)))]
    ['VAE, T = 1', 'HVAE, bottom-up, T = 2', 'HVAE, top-down, T = 2', 'VDM, T = 2', 'VDM, T = ∞']
    """
    hierarchies = [Member(HVAE, inference, depth) for depth in settings.depths for inference in settings.inferences]
    diffusion = [Member(VDM, "top_down", depth) for depth in (*settings.depths, None)]
    return [Member(VAE, "top_down", 1), *hierarchies, *diffusion]


def config_of(member: Member, config: Config, settings: FamiliesSettings, seed: int) -> Config | PredecessorConfig:
    """Return the config of a member's run: for a VDM the given one at its T, or else one with its data and budget."""
    if member.family == VDM:
        return replace(config, seed=seed, objective=replace(config.objective, num_steps=member.depth))
    name = f"vae(latents={settings.latents})"
    if member.family == HVAE:
        name = f"hvae(layers={member.depth}, latents={settings.latents}, inference={member.inference!r})"
    model = ModelConfig(name=name, width=settings.width, depth=settings.depth, coder=settings.coder)
    objective = LatentObjectiveConfig(warmup_steps=settings.warmup_steps, free_bits=settings.free_bits)
    return PredecessorConfig(
        seed=seed,
        imports=config.imports,
        data=config.data,
        model=model,
        objective=objective,
        optimizer=replace(config.optimizer, learning_rate=settings.learning_rate),
        training=config.training,
        evaluation=replace(config.evaluation, metrics=()),
    )
