import math

import numpy as np
import pytest
from coded import stack
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vdm.codec import normals
from vdm.codec.container import PARTS_BITS
from vdm.codec.normals import FAR, MEAN_STEPS, REACH, Normals, Stack, entropy_bits, mix

LIMIT = 2.0**53 / MEAN_STEPS
STDS = st.one_of(st.floats(0.29, 20), st.floats(20, 65536))
MEANS = st.lists(st.one_of(st.floats(-50, 50), st.floats(-1e12, 1e12)), max_size=40)
WORDS = st.lists(st.integers(1, (1 << 32) - 1), max_size=20)


def stack_of(words: list[int]) -> Stack:
    return Stack(np.array(words, np.uint32))


def words_of(stack: Stack) -> list[int]:
    return stack.get_compressed().tolist()


def empirical_bits(std: float, offset: float, distances: np.ndarray) -> float:
    """What a symbol costs on average, to one part in their number."""
    coder = stack()
    before = coder.num_valid_bits()
    Normals(std).push(coder, distances, np.full(len(distances), offset))
    return (coder.num_valid_bits() - before) / len(distances)


def grid_pmf(std: float, offset: float, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """(integers, their probabilities) of a normal of variance std² − 1/12 rounded to them."""
    k = np.arange(-reach, reach + 1)
    normal = stats.norm(offset, np.sqrt(std**2 - 1 / 12))
    return k, np.where(k > 0, normal.sf(k - 0.5) - normal.sf(k + 0.5), normal.cdf(k + 0.5) - normal.cdf(k - 0.5))


@settings(max_examples=60, deadline=None)
@given(STDS, MEANS, WORDS)
def test_given_back_is_undrawn(std, means, words):
    """Also of a stack that has fewer bits than are drawn, or none."""
    coder, q, mean = stack_of(words), Normals(std), np.array(means)
    drawn = q.draw(coder, mean)
    assert np.all(np.abs(drawn - mean) <= math.ceil(REACH * std) + 0.51)
    q.give_back(coder, drawn, mean)
    assert words_of(coder) == words


@settings(max_examples=60, deadline=None)
@given(STDS, MEANS, WORDS, st.data())
def test_popped_is_what_was_pushed(std, means, words, data):
    """However far from the mean."""
    far = st.one_of(st.integers(-3, 3), st.integers(-1000, 1000), st.integers(-FAR + 1, FAR - 1))
    coder, p, mean = stack_of(words), Normals(std), np.array(means)
    value = np.rint(mean).astype(np.int64) + np.array(
        data.draw(st.lists(far, min_size=len(means), max_size=len(means))), np.int64
    )
    p.push(coder, value, mean)
    assert p.pop(coder, mean).tolist() == value.tolist()
    assert words_of(coder) == words


@settings(max_examples=60, deadline=None)
@given(STDS, MEANS, WORDS)
def test_pushed_is_unpopped(std, means, words):
    """A decoder's draws are some image's code: any words are."""
    coder, p, mean = stack_of(words), Normals(std), np.array(means)
    p.push(coder, p.pop(coder, mean), mean)
    assert words_of(coder) == words


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(0, 2000), st.integers(0, 2**63), st.integers(0, 1000))
def test_mixed_twice_is_not_mixed(words, bits, number, step):
    coder = stack_of(words)
    mix(coder, bits, (number, step))
    mix(coder, bits, (number, step))
    assert words_of(coder) == words


def test_mixing_flips_half_of_the_bits_on_top():
    """To 5 standard deviations, none below, and other ones for another key."""
    coder, bits = stack(1000), 16 * 1000
    before = coder.get_compressed()
    mix(coder, bits, (1, 2))
    after = coder.get_compressed()
    assert len(after) == len(before)
    flipped = np.unpackbits((before ^ after).view(np.uint8)).sum()
    assert abs(flipped - bits / 2) < 5 * math.sqrt(bits / 4)
    assert before[: 1000 - bits // 32 - 2].tolist() == after[: 1000 - bits // 32 - 2].tolist()
    other = stack(1000)
    mix(other, bits, (2, 1))
    flipped = np.unpackbits((other.get_compressed() ^ after).view(np.uint8)).sum()
    assert abs(flipped - bits / 2) < 5 * math.sqrt(bits / 4)


def test_an_empty_stack_is_mixed_into_new_bits():
    coder = Stack()
    mix(coder, 3200, (0, 0))
    # To what constriction's state holds, which begins at 0.
    assert abs(coder.num_valid_bits() - 3200) <= 32
    draws = Normals(1.0).draw(coder, np.zeros(1000))
    assert abs(draws.mean()) < 5 / math.sqrt(1000)


@pytest.mark.parametrize("std", [0.6, 1.0, 2.5, 300.0])
def test_draws_have_the_mean_and_variance_of_the_normal(std):
    """Sheppard's correction; to 4.5 standard errors. Between the integers, too."""
    num = 200_000
    for offset in (0.0, 0.25, 0.5, -0.375):
        drawn = Normals(std).draw(stack(num // 2 if std < 4 else num), np.full(num, 1000 + offset)) - 1000 - offset
        # At σ = 0.6 the mean hangs on the offset by 1.4·10⁻³, the variance by 1.4 %: 2 exp(−2π²(σ² − 1/12)).
        ripple = 2 * math.exp(-2 * math.pi**2 * (std**2 - 1 / 12))
        assert abs(drawn.mean()) < 4.5 * std / math.sqrt(num) + ripple
        assert abs(drawn.var() / std**2 - 1) < 4.5 * math.sqrt(2 / num) + 2 * ripple


@pytest.mark.parametrize(("std", "nats"), [(1.0, 2e-6), (1.5, 2e-6), (2.0, 2e-6)])
def test_its_code_length_is_the_entropy_of_the_normal(std, nats):
    """The symbols of a large sample with exactly the probabilities, pushed: the coder's own parts are seen, to 10⁻⁶."""
    num = 2_000_000
    k, p = grid_pmf(std, 0.25, 12)
    # To whole numbers; what the rounding does to the mean of −log₂ p is taken out by the coder's own lengths.
    counts = np.rint(p * num).astype(int)
    symbols = np.repeat(k, counts)
    taken = empirical_bits(std, 0.25, symbols)
    expected = -(counts / counts.sum()) @ np.log2(np.maximum(p, 1e-300))
    assert abs(taken - expected) * math.log(2) < nats
    entropy = -(p[p > 0] @ np.log2(p[p > 0]))
    assert abs(entropy - entropy_bits(std)) * math.log(2) < nats
    # Without the correction it is 1/(24 σ²) more.
    _, wide = grid_pmf(math.sqrt(std**2 + 1 / 12), 0.25, 12)
    wide = wide[wide > 0]
    assert -(wide @ np.log(wide)) - entropy_bits(std) * math.log(2) == pytest.approx(1 / 24 / std**2, rel=0.1)


@pytest.mark.parametrize("std", [1.0, 2.0])
@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0])
def test_divergences_are_those_of_the_continuous_normals(std, shift):
    """KL of normals `shift` σ apart: ½ shift², to 10⁻³ of it, as the mean over where the grid is."""
    offsets = (np.arange(16) + 0.5) / 16 - 0.5
    divergences = []
    for offset in offsets:
        _, q = grid_pmf(std, offset, 30)
        _, p = grid_pmf(std, offset + shift * std, 30)
        q, p = q[p > 0], p[p > 0]
        divergences.append(np.sum(q[q > 0] * np.log(q[q > 0] / p[q > 0])))
    assert np.mean(divergences) == pytest.approx(shift**2 / 2, rel=1e-3)
    assert np.mean(divergences) > shift**2 / 2


def test_pushed_draws_of_another_normal_cost_the_divergence():
    """The coder's own: what is pushed under p less what was drawn of q, to 5 standard errors, of shift in nats."""
    num, shift = 400_000, 0.3
    coder = stack(num)
    start = coder.num_valid_bits()
    mean = np.random.default_rng(1).uniform(-5, 5, num)
    drawn = Normals(1.0).draw(coder, mean)
    Normals(1.0).push(coder, drawn, mean + shift)
    nats = (coder.num_valid_bits() - start) * math.log(2) / num
    assert abs(nats - shift**2 / 2) < 5 * shift / math.sqrt(num)


@pytest.mark.parametrize("std", [0.5, 1.0, 7.3])
def test_a_tail_costs_no_more_than_the_precision_and_32_bits(std):
    """And what the header says of the precision is so."""
    reach = math.ceil(REACH * std)
    for distance in (reach, -reach, reach + 1, -reach - 1, 10**6, -FAR + 1):
        cost = empirical_bits(std, 0.0, np.full(1000, distance))
        # Every integer has one part; some, by rounding, two.
        far = 32 * (abs(distance) > reach)
        assert PARTS_BITS - 1 + far <= cost <= PARTS_BITS + 0.1 + far, distance


def test_means_are_rounded_to_steps():
    """A difference far below a step changes nothing; a whole number of widths moves the values with it, exactly."""
    coder, other = stack(), stack()
    mean = np.random.default_rng(2).uniform(-5, 5, 500)
    mean = np.rint(mean * MEAN_STEPS) / MEAN_STEPS
    drawn = Normals(1.2).draw(coder, mean)
    assert (Normals(1.2).draw(other, mean + 1e-9 + 12345) - 12345).tolist() == drawn.tolist()
    assert words_of(coder) == words_of(other)


def test_what_cannot_be_coded_is_refused():
    for std in (0.0, 0.28, 65537.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"std=.*must be above 0.2887 and at most 65536"):
            Normals(std)
    coder = stack(100)
    before = words_of(coder)
    for mean in (math.nan, math.inf, -math.inf, LIMIT):
        with pytest.raises(ValueError, match="mean is not finite, or too large"):
            Normals(1.0).draw(coder, np.array([0.0, mean]))
    with pytest.raises(ValueError, match="must be within 2\\*\\*32"):
        Normals(1.0).push(coder, np.array([1 << 40]), np.zeros(1))
    with pytest.raises(ValueError, match="value is 9 from its mean: must be within 8"):
        Normals(1.0).give_back(coder, np.array([9]), np.zeros(1))
    assert words_of(coder) == before


@pytest.mark.parametrize("std", [0.5, 1.0, 3.0])
def test_what_draws_take(std):
    """`bits` is what they take and 4 of their standard deviations: to 5 of them."""
    num = 10_000
    coder = stack()
    before = coder.num_valid_bits()
    Normals(std).draw(coder, np.random.default_rng(3).uniform(-5, 5, num))
    taken = before - coder.num_valid_bits()
    spread = math.sqrt(num / 2) / math.log(2)
    assert -0.1 * spread < Normals(std).bits(num) - taken < 9 * spread


def test_distances_are_two_halves():
    coder = Stack()
    beyond = np.array([0, 1, 65535, 65536, FAR - 1])
    normals._push_distances(coder, beyond)
    assert coder.num_valid_bits() <= 32 * len(beyond) + 16
    assert normals._pop_distances(coder, len(beyond)).tolist() == beyond.tolist()
    assert coder.is_empty()
