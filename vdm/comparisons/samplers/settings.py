"""Settings of compare.py --by=sampler."""

from dataclasses import dataclass

from vdm import parts
from vdm.settings import Limit, at_least, increasing_steps, parts_of, setting, steps


def on_grid(text: str, grid: str = "schedule") -> tuple[str, str]:
    """Split "heun@karras" into sampler and grid, ("heun", "karras"); without an @, use the given grid.

    Raises ValueError for an invalid sampler or grid (see `vdm.parts`).
    """
    sampler, at, named = text.partition("@")
    parts.check("sampler", sampler)
    parts.check("grid", named if at else grid)
    return sampler, named if at else grid


def samplers_on_grids() -> Limit:
    """Limit for a tuple of samplers, each as SAMPLER or SAMPLER@GRID."""

    def problem(texts: tuple[str, ...]) -> str | None:
        try:
            for text in texts:
                on_grid(text)
        except parts.PartError as error:
            return str(error)
        return None

    return Limit(problem, lambda: "each SAMPLER or SAMPLER@GRID")


@dataclass
class SamplersSettings:
    """Settings for comparing samplers on one trained run."""

    samplers: tuple[str, ...] = setting(
        (
            "ancestral", "ddpm(large)", "ddim(0)", "heun", "dpm_solver_pp(2)", "dpm_solver_pp(3)",
            "dpm_solver_pp(2, True)", "unipc", "predictor_corrector", "heun@karras", "dpm_solver_pp(2)@uniform",
            "dpm_solver_pp(2)@karras",
        ),
        "Samplers, with a grid (SAMPLER@GRID) where it differs from that of `sampling`.",
        samplers_on_grids(),
    )  # fmt: skip
    calls: tuple[int, ...] = setting(
        (5, 10, 20, 50, 100),
        "Network calls per image; a sampler with two calls per step takes half as many steps.",
        increasing_steps(),
    )
    reference_calls: int = setting(1000, "Network calls of `ancestral` that set the quality to reach.", steps())
    noises: tuple[str, ...] = setting(
        ("ddim(0)", "ddim(0.2)", "ddim(0.5)", "ddim(1)", "ddpm(large)"),
        "Samplers for a separate table by the amount of noise per step.",
        samplers_on_grids(),
    )
    noise_steps: tuple[int, ...] = setting((10, 20, 50, 1000), "Numbers of steps in that table.", increasing_steps())
    metrics: tuple[str, ...] = setting(("mmd",), "Metrics of sample quality.", parts_of("metric"))
    classifier: str | None = setting(
        None, "Folder of the classifier for metrics that need one; None: the data's own, trained if necessary."
    )
    samples: int = setting(1000, "Number of images from each, with the other settings of `sampling`.", at_least(3))
