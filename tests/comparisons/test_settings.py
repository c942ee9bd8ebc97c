"""What the settings of comparisons refuse, before anything is loaded."""

import re
from typing import Any

import pytest

from vdm.comparisons import modes
from vdm.comparisons.objectives import ObjectivesSettings
from vdm.comparisons.samplers import SamplersSettings
from vdm.comparisons.samplers.settings import on_grid
from vdm.comparisons.steps import StepsSettings
from vdm.errors import InputError
from vdm.settings import check


@pytest.mark.parametrize("name", modes.MODES)
def test_the_defaults_are_allowed(name: str) -> None:
    check(modes.load(name).settings(), "comparison")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (StepsSettings(trained=(10, 5)), "comparison.trained=(10, 5): must be increasing"),
        (StepsSettings(evaluated=(0,)), "comparison.evaluated=(0,): must be increasing numbers from 1"),
        (StepsSettings(draws=0), "comparison.draws=0: must be 1 or more"),
        (StepsSettings(max_images=-1), "comparison.max_images=-1: must be 0 or more"),
        (ObjectivesSettings(samples=2), "comparison.samples=2: must be 3 or more"),
        (ObjectivesSettings(gradients=1), "comparison.gradients=1: must be 2 or more"),
        (ObjectivesSettings(metrics=("fad",)), "comparison.metrics=('fad',): 'fad': must be one of mmd"),
        (SamplersSettings(calls=(10, 5)), "comparison.calls=(10, 5): must be increasing"),
        (SamplersSettings(noise_steps=(0,)), "comparison.noise_steps=(0,)"),
        (SamplersSettings(reference_calls=0), "comparison.reference_calls=0: must be from 1"),
        (SamplersSettings(samplers=("plms",)), "sampler='plms': must be one of ancestral"),
        (SamplersSettings(noises=("ddim(2)",)), "comparison.noises=('ddim(2)',): sampler='ddim(2)': eta"),
        (SamplersSettings(samplers=("heun@edm",)), "grid='edm': must be one of schedule, quadratic, uniform"),
    ],
)
def test_bad_values_are_named(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check(settings, "comparison")


@pytest.mark.parametrize("steps", [("a",), (10.5,), (True,)])
def test_steps_are_integers(steps: tuple) -> None:
    settings = StepsSettings()
    settings.trained = steps  # as the command line sets it
    with pytest.raises(InputError, match=r"comparison\.trained"):
        check(settings, "comparison")


@pytest.mark.parametrize(("text", "grid", "found"), [
    ("heun", "uniform", ("heun", "uniform")), ("heun", "schedule", ("heun", "schedule")),
    ("heun@schedule", "uniform", ("heun", "schedule")),
    ("dpm_solver_pp(2, True)@karras", "schedule", ("dpm_solver_pp(2, True)", "karras")),
])  # fmt: skip
def test_a_name_may_carry_a_grid(text, grid, found):
    assert on_grid(text, grid) == found


def test_a_name_with_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="grid"):
        on_grid("heun@")
