"""How often captions and images are found: the exact model as often as closed forms say, sets, and records."""

import json
from collections import Counter

import captioned
import classifying
import jax
import numpy as np
import pytest
from classifying import GAMMA_0, GAMMA_1, IMAGES, gamma
from scipy import integrate, stats

from vdm import likelihoods, parallel
from vdm.data import Arrays
from vdm.errors import InputError
from vdm.evaluation.by_noise import GAMMA_BINS
from vdm.evaluation.retrieval import RetrievalEvaluator, Sets, chosen
from vdm.plots.classifiers import by_gamma

KEY = jax.random.key(0)
NUM, DRAWS = 600, 32
LABEL = np.random.default_rng(0).integers(0, 2, NUM)
SOURCE = Arrays({"image": IMAGES[LABEL], "text": captioned.ENCODED[LABEL]})


@pytest.fixture(scope="module")
def evaluator():
    return RetrievalEvaluator(captioned.exact(), gamma, parallel.make_mesh(), batch_size=400)


@pytest.fixture(scope="module")
def found(evaluator):
    with jax.numpy_dtype_promotion("standard"):
        return evaluator({"network": {}}, SOURCE, KEY, DRAWS)


def found_by_text(gamma: float) -> float:
    """That of two images the one of a caption has the larger log-ratio: N(a, 2a) above N(−a, 2a)."""
    x = np.asarray(likelihoods.encode(IMAGES, classifying.LEVELS), np.float64)
    return stats.norm.cdf(np.sqrt(np.exp(-gamma) * np.sum((x[0] - x[1]) ** 2) / 2))


def test_the_exact_model_is_as_good_as_bayes_says(found):
    """Of two captions; and of two images, which the noise of both has to confuse."""
    assert found.image_to_text.clean.value == found.text_to_image.clean.value == 1
    over_times = integrate.quad(lambda t: found_by_text(GAMMA_0 + (GAMMA_1 - GAMMA_0) * t), 0, 1, epsabs=1e-5)[0]
    for shares, wanted in ((found.image_to_text, classifying.over_times(1)), (found.text_to_image, over_times)):
        assert shares.uniform.stderr < 0.01
        assert abs(shares.uniform.value - wanted) < 4 * shares.uniform.stderr
    assert (found.num_candidates, found.num_draws, found.num_available) == (2, DRAWS, NUM)
    assert found.num_images == 2 * found.num_sets == 2 * min(Counter(LABEL.tolist()).values())


def test_by_gamma_too(found):
    centers = (found.edges[:-1] + found.edges[1:]) / 2
    of_image = [classifying.bayes(center)[1] for center in centers]
    of_text = [found_by_text(center) for center in centers]
    for shares, wanted in ((found.image_to_text, of_image), (found.text_to_image, of_text)):
        for share, value in zip(shares.by_gamma, wanted, strict=True):
            # Within a bin all but a straight line; an error of 0 where nothing was seen to fail.
            assert abs(share.value - value) < 4 * share.stderr + 0.01
    assert abs(found.image_to_text.by_gamma[-1].value - 0.5) < 0.1


def test_the_loss_is_that_of_chance_where_nothing_is_known():
    evaluator = RetrievalEvaluator(captioned.exact(), lambda t: 20.0 + t, parallel.make_mesh(1), batch_size=400)
    found = evaluator({"network": {}}, SOURCE, KEY, 2, max_images=100)
    np.testing.assert_allclose(found.loss.value, np.log(2), atol=1e-3)
    assert found.num_images == 100
    assert not found.of_all


def test_sets_have_their_own_noise_whatever_the_batch(found):
    """On one device here, on eight there."""
    alone = RetrievalEvaluator(captioned.exact(), gamma, parallel.make_mesh(1), batch_size=72)
    again = alone({"network": {}}, SOURCE, KEY, DRAWS)
    np.testing.assert_allclose(again.loss.value, found.loss.value, rtol=1e-5)
    assert again.image_to_text == found.image_to_text
    assert again.text_to_image == found.text_to_image


def test_a_set_has_different_captions_and_no_image_is_in_two():
    counts = [7, 1, 4, 4, 2]
    caption = np.repeat(np.arange(5), counts)
    index = np.arange(len(caption), dtype=np.uint8)
    image = np.broadcast_to(index[:, None, None, None], (len(index), 2, 2, 1))
    sets = Sets(Arrays({"image": image, "text": caption[:, None].astype(np.int32)}), most=3)
    members = [sets[k]["image"][:, 0, 0, 0].tolist() for k in range(len(sets))]
    for k in range(len(sets)):
        assert len(set(sets[k]["text"][:, 0].tolist())) == sets.num_candidates == 3
        assert sets[k]["text"][:, 0].tolist() == caption[members[k]].tolist()
    assert len({each for one in members for each in one}) == 3 * len(sets)
    # As many as can be: a caption is in each of them once at most.
    assert len(sets) == max(n for n in range(20) if sum(min(count, n) for count in counts) >= 3 * n)


@pytest.mark.parametrize("seed", range(20))
def test_there_are_as_many_sets_as_can_be(seed):
    rng = np.random.default_rng(seed)
    counts, num = rng.integers(1, 9, rng.integers(2, 9)).tolist(), int(rng.integers(2, 5))
    names = iter(range(1000))
    sets = chosen([[next(names) for _ in range(count)] for count in counts], num)
    assert len(sets) == max(n for n in range(100) if sum(min(count, n) for count in counts) >= num * n)
    assert len({each for one in sets for each in one}) == num * len(sets)


def test_one_caption_is_too_few():
    with pytest.raises(InputError, match=r"must have two captions or more that are encoded differently"):
        Sets(Arrays({"image": IMAGES, "text": captioned.ENCODED[[0, 0]]}))


def test_what_is_recorded(found, tmp_path):
    record = json.loads(json.dumps(found.to_dict()))
    assert record["contrastive_nats"]["value"] == found.total == found.loss.value
    assert len(record["text_to_image"]["by_gamma"]) == GAMMA_BINS
    assert record["image_to_text"]["accuracy"]["stderr"] == found.image_to_text.uniform.stderr
    assert record["images"] == {"num": found.num_images, "of": NUM}
    assert found.numbers["text_to_image_clean"] == 1
    series = {"captions": (found.image_to_text.by_gamma, found.image_to_text.clean)}
    by_gamma(tmp_path / "retrieval.png", found.edges, series, 2, "Image–text model")
    assert (tmp_path / "retrieval.png").stat().st_size > 5000
