"""Captions as arrays: bytes, byte pairs, and states of a frozen encoder that are computed once and kept."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdm.data.encodings import encoders
from vdm.data.encodings.frozen import frozen
from vdm.data.encodings.kept import Kept
from vdm.data.encodings.pairs import bpe
from vdm.data.encodings.utf8 import utf8
from vdm.data.texts import Text, fit
from vdm.errors import InputError
from vdm.runs.texts import FILE, read_text, write_text

NOT_INSTALLED = r"sentence-transformers is not installed: pip install 'vdm\[text\]'"
CAPTIONS = ["a bold seven", "a light eight, leaning right", "an eight", "seven, bold, leaning left"] * 3


# Bytes.


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=3))
def test_bytes_are_those_of_the_text(captions):
    encoding = utf8(length=128)
    for row, caption in zip(encoding.encode({}, captions), captions, strict=True):
        kept = row[row > 0] - 1
        assert bytes(kept.tolist()).decode() == caption.casefold()
        assert not row[len(kept) :].any()
    assert encoding.cut({}, captions) == 0


def test_what_is_longer_is_cut_and_counted():
    assert utf8(length=3).encode({}, ["seven"]).tolist() == [[116, 102, 119]]
    assert utf8(length=3).cut({}, ["seven", "six", "a"]) == 1


# Byte pairs.


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_pairs_say_any_text(caption):
    """Each token stands for its bytes: together they are the text's."""
    encoding = bpe(vocabulary=290, length=256)
    state = PAIRS
    spelled = spelling(state)
    tokens = [token for token in encoding.encode(state, [caption])[0].tolist() if token]
    assert max(tokens, default=1) < encoding.vocabulary(state)
    written = "".join(spelled[token - 1] for token in tokens)
    # tokenizers writes a byte as a letter that can be printed.
    found = bytes(LETTERS[letter] for letter in written).decode()
    assert found.lstrip(" ") == caption.lower().lstrip(" ")


def spelling(state) -> list[str]:
    return [*dict.fromkeys([*sorted(LETTERS), *("".join(pair) for pair in state["merges"])])]


def letters() -> dict[str, int]:
    """By GPT-2's letter for it, each byte: printable ones stand for themselves, the others follow from 256 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + k): byte for k, byte in enumerate(others)}


LETTERS = letters()
PAIRS = bpe(vocabulary=290).fit(CAPTIONS)


def test_what_is_frequent_is_one_token():
    encoding = bpe(vocabulary=512, length=16)
    state = encoding.fit(CAPTIONS)
    assert encoding.vocabulary(state) < 512  # these captions have no more
    rows = encoding.encode(state, ["a bold seven", "Bold seven", "xyz"])
    assert [(row > 0).sum() for row in rows] == [3, 2, 4]
    assert rows[0, 1:3].tolist() == rows[1, :2].tolist()


def test_pairs_are_the_same_whenever_they_are_learned():
    assert json.dumps(bpe().fit(CAPTIONS)) == json.dumps(bpe().fit(CAPTIONS))
    # As many merges as there is room for, each a prefix of those with more room.
    some, more = bpe(vocabulary=260).fit(CAPTIONS), bpe(vocabulary=270).fit(CAPTIONS)
    assert (len(some["merges"]), some["merges"]) == (3, more["merges"][:3])


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({}, "merges: must be a list of pairs"),
        ({"merges": {"a": "b"}}, "must be a list of pairs"),
        ({"merges": [["a", "b"], ["a"]]}, "merges: number 1 is not a pair of tokens"),
        ({"merges": [["a", 3]]}, "number 0 is not a pair of tokens"),
        ({"merges": [["ab", "c"]]}, "number 0 uses 'ab', which is not a token at that point"),
        ({"merges": [["a", "\n"]]}, "is not a token at that point"),
    ],
)
def test_pairs_of_a_file_are_checked(tmp_path, state, problem):
    (tmp_path / FILE).write_text(json.dumps({"name": "bpe", "state": state, "words": []}))
    with pytest.raises(InputError, match=r"text\.json: state: ") as caught:
        read_text(tmp_path)
    assert problem in str(caught.value)


def test_a_text_is_the_same_from_its_file(tmp_path):
    text = fit("bpe(length=8)", CAPTIONS)
    write_text(tmp_path, text)
    read = read_text(tmp_path)
    np.testing.assert_array_equal(read(CAPTIONS), text(CAPTIONS))
    assert (read.vocabulary, read.unknown("a bold nine")) == (text.vocabulary, ["nine"])


# Frozen encoders: a small one in place of sentence-transformers.


class FakeEncoder:
    """A word a token, and two more; states are of the word and of the folder's weights. Counts what it is asked."""

    asked: list[str] = []  # noqa: RUF012

    def __init__(self, folder: str, **options):
        self.weights = float(Path(folder, "weights.txt").read_text())

    def encode(self, captions, output_value, **options):
        assert output_value is None
        FakeEncoder.asked += captions
        return [self.output(caption) for caption in captions]

    def output(self, caption):
        words = ["[", *caption.split(), "]"]
        tokens = np.array([[len(word), sum(map(ord, word)) % 97, self.weights] for word in words], np.float32)
        padding = np.ones((2, 3), np.float32)
        mask = np.array([1] * len(words) + [0] * 2)
        return {
            "token_embeddings": np.concatenate([tokens, padding]),
            "sentence_embedding": tokens.mean(axis=0),
            "attention_mask": mask,
        }


@pytest.fixture
def model(tmp_path, monkeypatch) -> str:
    """A folder like those of sentence-transformers, with a library that reads it, and a cache of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    (folder / "weights.txt").write_text("0.5")
    monkeypatch.setenv("VDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=FakeEncoder))
    monkeypatch.setattr(FakeEncoder, "asked", [])
    return str(folder)


def without_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # importing it is an ImportError


def test_states_are_those_of_the_encoder(model):
    text = fit(f"frozen({model!r}, length=6)", CAPTIONS)
    rows = text(["a bold seven", "an eight"])
    assert (rows.shape, rows.dtype, text.vocabulary) == ((2, 7, 3), np.float32, None)
    for row, caption in zip(rows, ["a bold seven", "an eight"], strict=True):
        output = FakeEncoder(model).output(caption)
        num = int(output["attention_mask"].sum())
        np.testing.assert_array_equal(row[0], output["sentence_embedding"])
        np.testing.assert_array_equal(row[1 : 1 + num], output["token_embeddings"][:num])
        assert not row[1 + num :].any()
    assert text.cut(["a bold seven", "seven, bold, leaning to the left"]) == 1


def test_each_caption_is_computed_once_and_kept(model, monkeypatch):
    text = fit(f"frozen({model!r})", CAPTIONS)
    fresh = text(CAPTIONS)
    assert sorted(FakeEncoder.asked) == sorted(set(CAPTIONS))
    text([*CAPTIONS, "a nine"])
    assert FakeEncoder.asked[len(set(CAPTIONS)) :] == ["a nine"]
    # Another time, without the library, and without the model too: what is kept is the same.
    without_library(monkeypatch)
    again = fit(f"frozen({model!r})", CAPTIONS)
    np.testing.assert_array_equal(again([*CAPTIONS, "a nine"])[:-1], fresh)
    assert again == text
    np.testing.assert_array_equal(fit(f"frozen({model!r}, length=4)", CAPTIONS)(CAPTIONS), fresh[:, :5])
    Path(model, "modules.json").unlink()
    assert fit(f"frozen({model!r})", CAPTIONS) == text
    with pytest.raises(InputError, match=NOT_INSTALLED):
        text(["a zero"])


def test_without_the_library_one_line_says_what_to_do(model, monkeypatch):
    without_library(monkeypatch)
    text = fit(f"frozen({model!r})", CAPTIONS)  # a digest of its files needs no library
    with pytest.raises(InputError, match=NOT_INSTALLED) as caught:
        text(CAPTIONS)
    assert "\n" not in str(caught.value)


def test_another_encoder_has_states_of_its_own(model):
    name = f"frozen({model!r})"
    before = fit(name, CAPTIONS)
    first = before(CAPTIONS)
    Path(model, "weights.txt").write_text("0.75")
    after = fit(name, CAPTIONS)
    assert after.state != before.state
    second = after(CAPTIONS)
    assert len(FakeEncoder.asked) == 2 * len(set(CAPTIONS))
    assert (first[..., 2] != second[..., 2])[first[..., 2] != 0].all()
    # A run stays with the one it was trained with: with its states, and without it one line.
    np.testing.assert_array_equal(before(CAPTIONS), first)
    with pytest.raises(InputError, match=r"is a different encoder .* from that of the run"):
        before(["a zero"])


def test_notes_on_a_model_are_no_part_of_it(model):
    digest = encoders.digest_of(model)
    Path(model, "README.md").write_text("about")
    Path(model, ".gitattributes").write_text("*")
    assert encoders.digest_of(model) == digest
    Path(model, "tokenizer.json").write_text("{}")
    assert encoders.digest_of(model) != digest


@pytest.mark.parametrize("damage", ["a bit", "cut", "not one", "empty"])
def test_damaged_states_are_computed_anew(model, tmp_path, damage):
    text = fit(f"frozen({model!r})", CAPTIONS)
    fresh = text(CAPTIONS)
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    # Within a number of the states.
    content[content.index(fresh[0, 1].tobytes())] ^= 1
    cases = {"a bit": bytes(content), "cut": bytes(content[:-9]), "not one": b"states", "empty": b""}
    file.write_bytes(cases[damage])
    FakeEncoder.asked.clear()
    np.testing.assert_array_equal(text(CAPTIONS), fresh)
    assert sorted(FakeEncoder.asked) == sorted(set(CAPTIONS))
    FakeEncoder.asked.clear()
    text(CAPTIONS)
    assert FakeEncoder.asked == []


def test_without_a_folder_to_write_to_states_are_computed_each_time(model, monkeypatch):
    monkeypatch.setenv("VDM_CACHE", "relative")
    text = fit(f"frozen({model!r})", CAPTIONS)
    np.testing.assert_array_equal(text(CAPTIONS), text(CAPTIONS))
    assert len(FakeEncoder.asked) == 2 * len(set(CAPTIONS))


def test_two_kept_encoders_of_one_name_are_not_guessed_at(model):
    for digest in ("0" * 16, "1" * 16):
        Kept("gone", digest).add({"a": np.zeros((2, 3), np.float32)})
    with pytest.raises(InputError, match="is not installed, and the cache has states of 2 encoders of this name"):
        fit("frozen('gone')", ["a"])


def test_a_model_that_is_nowhere_is_refused_in_one_line(model, monkeypatch):
    def snapshot_download(name):
        raise OSError(f"no network for {name}\nand more")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(InputError, match=r"nor available from the hub: no network for no/model") as caught:
        fit("frozen('no/model')", ["a"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [{}, {"encoder": 3}, {"encoder": "../../../etc/pass"}, {"encoder": "0" * 15}])
def test_the_encoder_of_a_file_is_checked(tmp_path, state):
    (tmp_path / FILE).write_text(json.dumps({"name": "frozen", "state": state, "words": []}))
    with pytest.raises(InputError, match=r"text\.json: state: encoder=.*: must be 16 hexadecimal digits"):
        read_text(tmp_path)


@pytest.mark.parametrize("length", [0, 4097])
@pytest.mark.parametrize("make", [utf8, bpe, frozen])
def test_lengths_have_limits(make, length):
    with pytest.raises(ValueError, match=f"length={length}: must be from 1 to 4096"):
        make(length=length)


def test_a_vocabulary_has_room_for_all_bytes():
    with pytest.raises(ValueError, match="vocabulary=256: must be from 257"):
        bpe(vocabulary=256)
    assert bpe(vocabulary=257).fit(CAPTIONS) == {"merges": []}


def test_words_are_kept_with_a_text():
    text = fit("bytes", ["A bold seven"])
    assert isinstance(text, Text)
    assert text.unknown("a BOLD and a light Seven, light") == ["and", "light"]
