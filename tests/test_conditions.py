"""Conditions end to end, on images that their labels determine: each label reaches its own image, on every path.

With the exact denoiser and the label, x̂ = x: the diffusion loss is 0. Without it, −E log p(x) is the entropy of the
labels, log 4 for four that are equally likely; so that is what the labels are worth to the bound and to the ODE.
"""

import math
from collections.abc import Callable
from typing import Any

import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conditional import NUM, PATTERNS, exact, labels, mislabelled, model, source

from vdm import parallel
from vdm.config import Config, SamplingConfig, TrainingConfig
from vdm.data import Arrays, examples, train_iterator
from vdm.data.selection import order
from vdm.evaluation.bound import Estimates, Evaluator
from vdm.evaluation.conditions import conditions_of
from vdm.evaluation.images import ImageSampler
from vdm.evaluation.latents import Latents
from vdm.evaluation.ode import OdeEvaluator
from vdm.evaluation.planned import evaluate_to
from vdm.evaluation.variance import variance_report
from vdm.export import programs as export
from vdm.training.gradient_noise import gradient_noise
from vdm.training.objective import Objective, loss_and_gradients
from vdm.training.prefetch import Prefetched
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, jit_train_step

KEY = jax.random.key(3)


def estimates(with_label: bool, of: Arrays, num_devices: int = 8, draws: int = 16) -> Estimates:
    which = model(with_label)
    evaluator = Evaluator(which, parallel.make_mesh(num_devices), 8)
    return evaluator.estimates(exact(which), of, KEY, draws)


def diffusion(found: Estimates) -> np.ndarray:
    return found.terms[:, 2].mean(axis=0)


def test_a_label_is_worth_its_entropy() -> None:
    images = source(64)
    plain = diffusion(estimates(False, images, draws=64))
    np.testing.assert_allclose(diffusion(estimates(True, images, draws=2)), 0, atol=1e-4)
    # The patterns differ at random: I(x; z) at γ₀ is the entropy to about e^{-100}, at γ₁ below D/2 e^{-9}.
    assert abs(plain.mean() - math.log(NUM)) < 4 * plain.std(ddof=1) / 8 + 1e-3


@pytest.mark.parametrize("num_devices", [1, 8])
def test_every_image_is_evaluated_with_its_own_label(num_devices: int) -> None:
    right = diffusion(estimates(True, source(), num_devices))
    wrong = diffusion(estimates(True, mislabelled(), num_devices))
    np.testing.assert_allclose(right, 0, atol=1e-4)
    # ½ Δγ ‖x − x̂‖² SNR on average, far above.
    assert wrong.min() > 10


def test_devices_do_not_change_the_numbers() -> None:
    one, eight = (estimates(True, mislabelled(), n) for n in (1, 8))
    np.testing.assert_allclose(one.terms, eight.terms, rtol=1e-5)


def test_planned_draws_and_variance_know_the_label() -> None:
    which, mesh = model(True), parallel.make_mesh(8)
    found, _ = evaluate_to(Evaluator(which, mesh, 8), exact(which), source(), KEY, 0.01)
    assert found.diffusion == pytest.approx(0, abs=1e-4)
    report = variance_report(which, exact(which), mesh, source(), KEY, batch_size=4, max_images=8, rounds=3)
    assert max(line.iid for line in report.lines) < 0.1


def test_the_ode_knows_the_label() -> None:
    """Of point masses the ODE's own density is exact: what a label is worth is what it is worth to the bound."""
    mesh, totals = parallel.make_mesh(8), []
    for with_label, of in ((True, source()), (False, source()), (True, mislabelled())):
        which = model(with_label)
        found = OdeEvaluator(which, mesh, 64, num_probes=0)(exact(which), of, KEY, 1)
        totals.append(found.terms.sum(axis=1)[0])
    # What is left of a pattern m at γ₁ moves log N(z₁; 0, I) by α₁ ⟨m, z₁⟩, 0.025 of one standard deviation.
    np.testing.assert_allclose(totals[1] - totals[0], math.log(NUM), atol=0.1)
    assert (totals[2] - totals[0]).min() > 100


def settings(num: int = 11, **changes: Any) -> SamplingConfig:
    return SamplingConfig(**({"num": num, "steps": 4, "batch_size": 4} | changes))


@pytest.mark.parametrize("num_devices", [1, 8])
def test_images_are_sampled_with_their_own_labels(num_devices: int) -> None:
    """In batches of 4 or 8, the last with padding; from the middle too. Labels are of elements from all over."""
    which = model(True)
    sampler = ImageSampler(which, parallel.make_mesh(num_devices), settings())
    condition = conditions_of(which, source(), 11)
    images, _ = sampler(exact(which), KEY, 11, condition=condition)
    np.testing.assert_array_equal(images, PATTERNS[labels(13)[order(13)[:11]]])
    later, _ = sampler(exact(which), KEY, 3, first=12, condition=conditions_of(which, source(), 3, first=12))
    np.testing.assert_array_equal(later, PATTERNS[labels(13)[order(13)[[12, 0, 1]]]])


def test_latents_know_the_label() -> None:
    which = model(True)
    latents = Latents(which, parallel.make_mesh(8), settings(sampler="ddim"), exact(which))
    frames = latents.interpolate(KEY, 3, 2, condition={"label": np.array([2, 0, 1])})
    np.testing.assert_array_equal(frames, np.stack([PATTERNS[[2, 0, 1]]] * 2))
    shuffled = source().arrays["image"][order(13)]
    again = latents.reconstruct(shuffled, condition=conditions_of(which, source(), 13))
    np.testing.assert_array_equal(again, shuffled)


def test_exported_programs_take_the_condition() -> None:
    which, wanted = model(True), labels(5)
    lowered = export.programs(which, settings(), ["cpu"])
    weights = export.to_weights(exact(which))
    condition = {"label": jnp.asarray(wanted, jnp.int32)}
    images, _ = lowered["sampler.bin"].call(weights, np.uint32(0), np.arange(5, dtype=np.int32), condition)
    np.testing.assert_array_equal(images, PATTERNS[wanted])
    z, gamma = jax.random.normal(KEY, (5, *which.shape)), jnp.linspace(-3.0, 3.0, 5)
    eps_hat = lowered["denoiser.bin"].call(weights, z, gamma, condition)
    np.testing.assert_allclose(eps_hat, which.denoise(exact(which), z, gamma, condition), rtol=1e-4, atol=1e-5)


def loss(of: Arrays, num_devices: int | None = None) -> tuple[float, Any]:
    """The diffusion loss of a training step and its gradient, from variables off the exact ones; on a mesh, or not."""
    which, batch = model(True), examples(of, range(8))
    variables = exact(which)
    variables["network"] = jax.tree.map(lambda means: means + 0.1, variables["network"])
    mesh = None if num_devices is None else parallel.make_mesh(num_devices)
    placed = batch if mesh is None else parallel.shard_batch(batch, mesh)
    step = jax.jit(lambda batch: loss_and_gradients(which, Objective(), variables, {}, KEY, batch, 1, mesh))
    bound, gradients, _ = step(placed)
    return float(bound.diffusion), jax.device_get(gradients["network"]["means"])


def test_labels_reach_the_loss_in_the_order_of_their_images() -> None:
    right, gradient = loss(source())
    assert loss(mislabelled())[0] > 10 * right
    # x̂ is above x by the same in all: the gradient of each pattern in the batch points up, that of the others is 0.
    used = np.unique(labels(13)[:8])
    assert (gradient[used] > 0).all()
    assert not gradient[np.setdiff1d(np.arange(NUM), used)].any()
    for num_devices in (1, 8):
        same, same_gradient = loss(source(), num_devices)
        np.testing.assert_allclose(same, right, rtol=1e-5)
        np.testing.assert_allclose(same_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("num_devices", "accumulate"), [(1, 1), (8, 1), (8, 2)])
def test_training_learns_the_pattern_of_each_label(num_devices: int, accumulate: int) -> None:
    """From shuffled, prefetched batches over the devices: the means come to be the images of their labels."""
    which, batch_size = model(True, -2.0, 4.0), 16
    config = Config(training=TrainingConfig(steps=150, batch_size=batch_size, accumulate=accumulate))
    config.optimizer.learning_rate, config.optimizer.warmup_steps, config.optimizer.weight_decay = 0.05, 0, 0.0
    mesh, optimizer = parallel.make_mesh(num_devices), make_optimizer(config)
    batches = Prefetched(train_iterator(conditional.dataset(), batch_size=batch_size, seed=0), mesh)
    with jax.numpy_dtype_promotion("standard"):
        state, metrics = init_state(which, Objective(), optimizer, 0), empty_metrics()
        step = jit_train_step(which, Objective(), optimizer, config, mesh)
        for _ in range(150):
            state, metrics = step(state, metrics, next(batches))
            parallel.throttle(metrics)
    means = np.asarray(state.variables["network"]["means"])
    np.testing.assert_allclose(means, np.asarray(exact(which)["network"]["means"]), atol=0.03)


def test_the_noise_of_the_gradient_is_of_labelled_batches() -> None:
    """All gradients are of x̂ − x, the same for right labels; for wrong ones they differ by label, and so have noise."""
    which = model(True)
    variables = exact(which) | {"network": {"means": exact(which)["network"]["means"] + 0.1}}
    with jax.numpy_dtype_promotion("standard"):
        right, wrong = (
            gradient_noise(which, Objective(), parallel.make_mesh(8), variables, {}, of, KEY, 16, 16)
            for of in (source(64), mislabelled(64))
        )
    assert right != wrong
    assert np.isfinite([right, wrong]).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.condition_of({"image": 0}), "batch has image: must have 'label', a condition of the network"),
        (
            lambda m: m.condition_of({"label": np.zeros((8, 1))}),
            r"batch\['label'\] has shape \(8, 1\): must be \(batch,\)",
        ),
        (lambda m: m.condition_of({"label": np.int32(3)}), r"batch\['label'\] has shape \(\): must be \(batch,\)"),
        (lambda m: m.condition_for(3, None), "condition=None: must be a dict of 'label'"),
        (
            lambda m: m.condition_for(3, {"label": np.zeros(4)}),
            r"condition\['label'\] has shape \(4,\): must begin with 3",
        ),
        (lambda m: m.condition_for(3, {"kind": np.zeros(3)}), "batch has kind: must have 'label'"),
    ],
)
def test_a_condition_that_does_not_fit_is_one_line(call: Callable[..., Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}") as error:
        call(model(True))
    assert "\n" not in str(error.value)


def test_a_wrong_condition_stops_a_loss_and_a_sampler() -> None:
    which = model(True)
    batch = {"image": PATTERNS, "label": np.zeros((NUM, 1), np.int32)}
    with pytest.raises(ValueError, match=r"^batch\['label'\] has shape"):
        which.bound(exact(which), KEY, jax.tree.map(jnp.asarray, batch))
    with pytest.raises(ValueError, match=r"^condition=None"):
        ImageSampler(which, parallel.make_mesh(1), settings())(exact(which), KEY, 3)


def test_without_conditions_nothing_is_read() -> None:
    assert conditions_of(model(False), source(), 5) is None
    assert model(False).condition_for(5, None) is None
