"""`vdm.verify`: it passes here, says so, and misses when any one line of the library is wrong."""

import inspect
import re

import pytest

from vdm import bounds, gaussian, guidance, inverse, likelihoods, samplers, schedules, timesteps
from vdm.verify import table as verify
from vdm.verify.checks import Check

# Few samples, the same checks; what is deterministic keeps its precision.
SCALE = 1 / 32


@pytest.mark.parametrize("topic", verify.TOPICS)
def test_the_library_passes(topic):
    checks = verify.verify(seed=0, scale=SCALE, only=[topic])
    assert len(checks) >= 3
    assert not [check for check in checks if not check.passed]


# One edit each: (where, function, the right text, the wrong text, a topic that must miss).
BUGS = [
    (gaussian, "alpha", "sigmoid(-", "sigmoid(", "diffusion"),
    (
        gaussian,
        "sigma",
        "jnp.sqrt(jax.nn.sigmoid(jnp.asarray(gamma)))",
        "jax.nn.sigmoid(jnp.asarray(gamma))",
        "diffusion",
    ),
    (gaussian, "transition", "expm1(gamma_s - gamma_t)", "expm1(gamma_t - gamma_s)", "posterior"),
    (gaussian, "posterior", "(var_s / var_t)", "(var_s / var_t) ** 0.5", "posterior"),
    (gaussian, "posterior_from_eps", "alpha(gamma_s) / alpha(gamma_t)", "alpha(gamma_t) / alpha(gamma_t)", "posterior"),
    (gaussian, "posterior_from_eps", "jax.nn.sigmoid(gamma_s) * c", "jax.nn.sigmoid(gamma_t) * c", "posterior"),
    (gaussian, "posterior", "return mean, var_s * c", "return mean, var_t * c", "ancestral"),
    (likelihoods, "encode", "/ levels", "/ (levels - 1)", "ends"),
    (likelihoods, "_exponents", "(2 * d - delta)", "(2 * d + delta)", "ends"),
    (bounds, "prior_loss", "jax.nn.softplus", "0.5 * jax.nn.softplus", "ends"),
    (bounds, "prior_loss", "jnp.square(x) - 1", "jnp.square(x)", "ends"),
    (bounds, "diffusion_loss_at", "0.5 * ", "", "diffusion"),
    (bounds, "diffusion_loss_at", "0.5 * ", "", "conditional"),
    (bounds, "discrete_noise_levels", "jnp.expm1(gamma_t - gamma_s)", "(gamma_t - gamma_s)", "discrete"),
    (bounds, "discrete_noise_levels", "expm1(gamma_t", "exp(gamma_t", "discrete"),
    (bounds, "discrete_noise_levels", "(i - 1)", "(i + 1)", "discrete"),
    (bounds, "bits_per_dim", "np.log(2)", "np.log10(2)", "bound"),
    (
        schedules,
        "value_and_slope",
        "return jax.jvp(f, (t,), (jnp.ones_like(t),))",
        "return f(t), 10 * jnp.ones_like(t)",
        "invariance",
    ),
    (timesteps, "stratified", "+ jnp.arange", "* jnp.arange", "diffusion"),
    (samplers.grids, "_times", "np.arange(num_steps, -1, -1", "np.arange(num_steps, 0, -1", "ancestral"),
    (samplers, "ancestral", "jnp.sqrt(var)", "var", "ancestral"),
    (guidance, "classifier", "(jax.nn.sigmoid(at) / gaussian.alpha(at))", "gaussian.sigma(at)", "guidance"),
    (guidance, "linear", "- w * other", "- w * one", "guidance"),
    (samplers, "shifted", "jnp.square(std)", "0 * std", "guidance"),
    (inverse, "_guided", "jax.nn.sigmoid(at) / gaussian.alpha(at)", "gaussian.sigma(at)", "restoration"),
    (inverse, "moment_matching", "jnp.square(at.std)", "at.std", "restoration"),
    (inverse, "_white_var", "var + jax.nn.sigmoid(-gamma) * s", "var + s", "restoration"),
    (inverse, "_conjugate_gradients", "after / jnp", "square / jnp", "restoration"),
]


def plant(monkeypatch, module, name, right, wrong) -> None:
    """Replaces a function of the library by its own source with `right` replaced by `wrong`."""
    function = inspect.unwrap(getattr(module, name))
    source = inspect.getsource(function)
    assert right in source, f"{name} has no {right!r} any more: plant the bug anew"
    namespace = dict(function.__globals__)
    exec(source.replace(right, wrong), namespace)
    # `bounds` imports one of them by name.
    for owner in (module, bounds):
        if hasattr(owner, name):
            monkeypatch.setattr(owner, name, namespace[name])


@pytest.mark.parametrize(("module", "name", "right", "wrong", "topic"), BUGS)
def test_a_wrong_line_is_noticed(monkeypatch, module, name, right, wrong, topic):
    plant(monkeypatch, module, name, right, wrong)
    assert not all(check.passed for check in verify.verify(seed=0, scale=SCALE, only=[topic]))


@pytest.mark.parametrize("topic", ["diffusion", "ends", "posterior"])
def test_it_is_not_the_planting_that_is_noticed(monkeypatch, topic):
    for (module, name), right in {(bug[0], bug[1]): bug[2] for bug in BUGS if bug[-1] == topic}.items():
        plant(monkeypatch, module, name, right, right)
    assert all(check.passed for check in verify.verify(seed=0, scale=SCALE, only=[topic]))


def test_verdicts():
    assert Check("random", 1.0, 1.2, stderr=0.07).passed
    assert not Check("random", 1.0, 1.2, stderr=0.06).passed
    assert Check("deterministic", 1.0, 1.1, tolerance=0.2).passed
    assert not Check("deterministic", 1.0, 0.7, tolerance=0.2).passed
    assert not Check("not a number", 1.0, float("nan"), stderr=1.0).passed


def test_seeds_and_selections_are_independent():
    """A topic's numbers do not depend on what else is run; another seed draws anew."""
    alone = verify.verify(seed=1, scale=0.001, only=["diffusion"])
    together = verify.verify(seed=1, scale=0.001, only=["posterior", "diffusion"])
    assert together[-3:] == alone
    assert verify.verify(seed=2, scale=0.001, only=["diffusion"]) != alone


@pytest.mark.parametrize(("measured", "status"), [(0.3, 0), (0.5, 1)])
def test_the_table_and_the_exit_status(monkeypatch, capsys, measured, status):
    checks = [Check("a mean, nats", 0.31, measured, stderr=0.01), Check("a sum", 72.5, 72.5, tolerance=1e-4)]
    monkeypatch.setattr(verify, "TOPICS", {"only": lambda key, scale: iter(checks)})
    monkeypatch.setenv("COLUMNS", "120")
    assert verify.main(["--seed=5"]) == status
    out = capsys.readouterr().out
    assert "seed 5" in out
    verdict = "MISS" if status else "ok"
    assert re.search(rf"a mean, nats\W+0.31\W+{measured}0000 ± 0.01000\W+{verdict}\W", out)
    assert re.search(r"a sum\W+72.5\W+72.5\W+ok\W", out)
    assert f"{2 - status} of 2 hold" in out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--sed=1", "unrecognized arguments: --sed=1"),
        ("--seed=-1", "argument --seed: must be a whole number from 0 to 4294967295, not '-1'"),
        ("--seed=many", "argument --seed: must be a whole number from 0 to 4294967295, not 'many'"),
    ],
)
def test_a_bad_flag_is_one_line_and_status_2(capsys, flag, message):
    with pytest.raises(SystemExit) as exit_info:
        verify.main([flag])
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {message}\n"
