"""What every network of vdm has to be: by their names, at their smallest."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import model as model_lib
from vdm import parts
from vdm.config import Config
from vdm.errors import InputError
from vdm.speed import forward_flops

NAMES = ADM, DIT = "adm(multipliers=(1, 2), attention_at=())", "dit(mlp_ratio=2)"
SMALLEST = LEVEL, _ = "adm(multipliers=(1,), attention_at=())", DIT
CONTEXT = {"channels": 8, "depth": 1, "heads": 2, "gamma_min": -7.0, "gamma_max": 4.0, "classes": 3, "levels": 17}
SHAPE = (4, 6, 2)
GAMMA = jnp.array([-6.0, -3.0, 1.0, 2.0])
CONDITION = {"label": jnp.array([0, 1, 2, 1]), "dropped": jnp.array([False, False, True, False])}


def network(name: str, **changes: Any) -> Any:
    return parts.make("network", name, **(CONTEXT | {"shape": SHAPE} | changes))


@pytest.fixture(scope="module", params=NAMES)
def named(request):
    """(name, variables off their start, compiled application to four images)."""
    module, z = network(request.param), jnp.zeros((4, *SHAPE))
    variables = tiny.random_variables(jax.eval_shape(module.init, jax.random.key(0), z, GAMMA, CONDITION))
    return request.param, variables, jax.jit(functools.partial(module.apply, variables))


def images() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (4, *SHAPE))


def test_examples_are_separate(named):
    _, _, apply = named
    z, order = images(), np.array([2, 0, 3, 1])
    plain = apply(z, GAMMA, CONDITION)
    assert plain.shape == z.shape
    assert np.max(np.abs(plain - z)) > 0.01
    shuffled = apply(z[order], GAMMA[order], {name: value[order] for name, value in CONDITION.items()})
    # 2⁴π·EPS·4 of rounding in the features, carried through a few layers.
    np.testing.assert_allclose(plain[order], shuffled, rtol=1e-4, atol=1e-4)


def test_every_pixel_gamma_and_label_reach_the_output_but_no_label_that_is_dropped(named):
    _, _, apply = named
    z = jnp.broadcast_to(images()[:1], (4, *SHAPE))
    plain = apply(z, jnp.zeros(4), CONDITION)

    def moved(**changes: Any) -> np.ndarray:
        """By how much each image of the result."""
        inputs = {"z": z, "gamma": jnp.zeros(4), **CONDITION, **changes}
        condition = {name: inputs[name] for name in CONDITION}
        difference = apply(inputs["z"], inputs["gamma"], condition) - plain
        return np.max(np.abs(difference), axis=(1, 2, 3))

    assert moved(gamma=jnp.ones(4)).min() > 1e-2
    # The second and the last have the same label, the third none, whatever it is.
    assert np.max(np.abs(plain[1] - plain[3])) < 1e-5
    np.testing.assert_array_equal(moved(label=jnp.array([2, 1, 0, 0])) > 1e-3, [True, False, False, True])
    np.testing.assert_array_equal(moved(dropped=jnp.array([True, False, True, False])) > 1e-3, [True] + 3 * [False])
    # A pixel far from it: the middle attends, whatever the resolution.
    far = apply(z.at[:, 0, 0].add(1.0), jnp.zeros(4), CONDITION) - plain
    assert np.min(np.max(np.abs(far[:, 3, 5]), axis=-1)) > 1e-4


def gradient_of(module: Any, variables: Any, z: jax.Array, key: jax.Array) -> Any:
    apply = functools.partial(module.apply, train=True, rngs={"dropout": key})
    return jax.grad(lambda v: jnp.mean(jnp.square(apply(v, z, GAMMA, CONDITION))))(variables)


def test_training(named):
    """Every parameter has a gradient; dropout draws from its own stream."""
    name, variables, _ = named
    gradient = jax.jit(functools.partial(gradient_of, network(name, dropout=0.5), variables, images()))
    plain, other = gradient(jax.random.key(0)), gradient(jax.random.key(1))
    largest = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(plain))
    differences = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), plain, other)
    assert max(jax.tree.leaves(differences)) > 1e-2 * largest
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        # One vector added to all keys moves a query's scores by the same.
        nothing = jax.tree_util.keystr(path).endswith("['key']['bias']")
        assert (np.max(np.abs(leaf)) > 1e-6 * largest) != nothing, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", NAMES)
def test_rematerialised_blocks_keep_less_and_have_the_same_parameters(name):
    def kept(remat: bool) -> tuple[Any, int]:
        """The variables, and how many numbers the backward pass takes from the forward pass."""
        module = network(name, remat=remat, dropout=0.5)
        shapes = jax.eval_shape(module.init, jax.random.key(0), images(), GAMMA, CONDITION)
        apply = functools.partial(module.apply, train=True, rngs={"dropout": jax.random.key(0)})
        saved = jax.eval_shape(lambda v: jax.vjp(lambda v: apply(v, images(), GAMMA, CONDITION), v)[1], shapes)
        return shapes, sum(leaf.size for leaf in jax.tree.leaves(saved)) - sum(x.size for x in jax.tree.leaves(shapes))

    (plain, much), (again, little) = kept(False), kept(True)
    assert plain == again
    assert little < 0.6 * much


@pytest.mark.parametrize("name", SMALLEST)
def test_a_fresh_network_returns_z_or_zero(name):
    z = images()[:, :2, :2]
    with_z, without = (network(name, residual=residual, shape=(2, 2, 2)) for residual in (True, False))

    @jax.jit
    def fresh(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, variables = with_z.init_with_output(key, z, GAMMA, CONDITION)
        return first, without.apply(variables, z, GAMMA, CONDITION)

    first, second = fresh(jax.random.key(0))
    np.testing.assert_array_equal(first, z)
    np.testing.assert_array_equal(second, 0)


CONV = "adm(multipliers=(2, 1, 1), up_down=conv, attention_at=(4,))"


@pytest.mark.parametrize(("name", "shape"), [(LEVEL, (3, 1, 2)), (CONV, (12, 16, 3)), ("dit(patch=4)", (8, 4, 1)),
                                             ("dit(patch=1)", (3, 1, 2))])  # fmt: skip
def test_images_of_other_sizes(name, shape):
    """In training, too."""
    module = network(name, shape=shape, classes=None)
    z = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), z, GAMMA[:2])
    assert jax.eval_shape(module.apply, variables, z, GAMMA[:2]).shape == z.shape
    apply = functools.partial(module.apply, train=True, rngs={"dropout": jax.random.key(0)})
    gradient = jax.grad(lambda v, z: jnp.sum(apply(v, z, GAMMA[:2])))
    assert jax.eval_shape(gradient, variables, z) == variables


def test_bfloat16_comes_out_as_float32_but_for_rounding(named):
    name, variables, apply = named
    z = images()
    with jax.numpy_dtype_promotion("standard"):
        rounded = jax.jit(network(name, dtype="bfloat16").apply)(variables, z, GAMMA, CONDITION)
    assert rounded.dtype == jnp.float32
    exact = apply(z, GAMMA, CONDITION)
    error = np.sqrt(np.mean(np.square(rounded - exact)) / np.mean(np.square(exact - z)))
    # About ten roundings of up to 2⁻⁹ in each of up to ten blocks, independent, and as many again of their inputs.
    assert 2**-14 < error < 2**-9 * np.sqrt(2 * 100)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_lowers_for_other_platforms(name):
    module, z = network(name, dtype="bfloat16", remat=True, dropout=0.1), jnp.zeros((4, *SHAPE))
    variables = jax.eval_shape(module.init, jax.random.key(0), z, GAMMA, CONDITION)
    with jax.numpy_dtype_promotion("standard"):
        gradient = jax.jit(functools.partial(gradient_of, module))
        lowered = jax.export.export(gradient, platforms=["cuda", "tpu"])(variables, z, jax.random.key(0))
    assert lowered.platforms == ("cuda", "tpu")
    assert "custom_call" not in lowered.mlir_module()


def config(name: str, **changes: Any) -> Config:
    made = tiny.config(name=name, condition=("label",), **changes)
    made.data.classes, made.data.entries = 3, ("label int32",)
    return made


@pytest.mark.parametrize(("name", "prediction"), [(LEVEL, "energy"), (DIT, "v"), (DIT, "energy")])
def test_a_model_has_a_bound(name, prediction):
    """Shapes only: that all can be traced, the energy's gradient too."""
    model = model_lib.from_config(config(name, prediction=prediction))
    variables = jax.eval_shape(model.init, jax.random.key(0))
    condition = {"label": jnp.zeros(2, jnp.int32), "dropped": jnp.ones(2, bool)}
    batch = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8)} | condition
    bound = jax.eval_shape(model.bound, variables, jax.random.key(1), batch)
    assert [term.shape for term in bound] == 3 * [(2,)]
    assert forward_flops(model) > 0


@pytest.mark.parametrize("name", [*NAMES, "unet"])
def test_any_number_of_classes(name):
    """A vector for each, and nothing else."""

    def shapes(classes: int) -> Any:
        of = jax.eval_shape(network(name, classes=classes).init, jax.random.key(0), images(), GAMMA, CONDITION)
        return of["params"]

    one, many = shapes(1), shapes(1000)
    (rows, size), (more_rows, _) = (tree["condition"]["label"]["embedding"].shape for tree in (one, many))
    assert (rows, more_rows) == (1, 1000)
    few, more = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (one, many))
    assert more - few == 999 * size


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        (
            "adm(multipliers=(1, 2, 4, 8))",
            {},
            "multipliers: 4 need a height and width that are multiples of 8; found 4×4",
        ),
        ("dit(patch=3)", {}, "patch=3: must divide the images' height and width, 4×4"),
        ("dit", {"channels": 6}, "config.network.channels=6: must be a multiple of 4"),
        ("adm(multipliers=(1, 2))", {"heads": 3}, "config.network.heads=3: must be a divisor of channels=8"),
    ],
)
def test_what_does_not_fit_is_one_line(name, changes, says):
    with pytest.raises(InputError, match=says) as caught:
        model_lib.from_config(config(name, **changes))
    assert "\n" not in str(caught.value)
