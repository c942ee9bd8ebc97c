"""The objective that a config describes; its gradients are in test_step.py."""

import jax
import numpy as np
import pytest
import tiny

from vdm.training import objective as objective_lib
from vdm.training.objective import Objective, loss_and_gradients


def test_the_config_names_its_parts():
    config = tiny.config()
    config.objective.weighting, config.objective.loss_space = "sigmoid(3)", "v"
    config.objective.proposal, config.objective.stratified = "log_normal(-1.0, 1.0)", False
    objective = objective_lib.from_config(config)
    np.testing.assert_allclose(objective.weighting.weight(3.0), 0.5)
    assert objective.loss_space == "v"
    assert not objective.stratified
    assert objective.proposal.normal == (-2.0, 2.0)


@pytest.mark.parametrize("stratified", [True, False])
def test_times_are_stratified_or_not(monkeypatch, stratified):
    """Those that reach the proposal: one in each interval of 1/B, or independent."""
    seen = []
    uniform = Objective().proposal

    def draw(state, u, *rest):
        seen.append(u)
        return uniform.draw(state, u, *rest)

    objective = Objective(proposal=uniform._replace(draw=draw), stratified=stratified)
    model = tiny.model()
    batch = {"image": tiny.images(32)}

    @jax.jit
    def times(variables):
        loss_and_gradients(model, objective, variables, {}, jax.random.key(0), batch)
        return seen.pop()

    t = np.sort(times(tiny.variables(model)))
    assert np.allclose(np.diff(t), 1 / 32, atol=1e-6) == stratified
