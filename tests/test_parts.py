"""Parts by name: what is read, what is refused and in which words, and that nothing else is ever run."""

import inspect
import itertools
import re
import subprocess
import sys
from typing import Literal

import pytest
from tiny import PART_CONTEXT

from vdm import parts
from vdm.errors import InputError

# Sources read data, extractors weights: they have tests of their own.
EVERY = [(kind, name) for kind in parts.PARTS if kind not in ("source", "extractor") for name in parts.names(kind)]


class Pair(tuple):
    """Equal where it reads the same: nan too."""

    def __new__(cls, *values: object) -> "Pair":
        return super().__new__(cls, (repr(value) for value in values))


def pair(a: float = 1.0, b: float | None = None, word: str = "x", flag: bool = False, n: int = 2) -> Pair:
    """A pair, of five."""
    if a == 13:
        raise ValueError("a=13: must be another")
    return Pair(a, b, word, flag, n)


def outer(inner: Pair, size: Literal["small", "large"] = "small", sizes: tuple[int, ...] = ()) -> Pair:
    return Pair(inner, size, sizes)


def anything(a=None, gamma_min=None):
    return Pair(a, gamma_min)


def none() -> Pair:
    return Pair()


@pytest.fixture(autouse=True)
def of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind with parts of the tests'."""
    monkeypatch.setitem(parts.PARTS, "thing", {f.__name__: f for f in (pair, outer, anything, none)})


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_part_is_made_by_its_name_and_its_defaults_are_of_their_types(kind, name):
    made = parts.make(kind, name, **PART_CONTEXT)
    assert type(parts.make(kind, f" {name}() ", **PART_CONTEXT)) is type(made)
    assert parts.canonical(kind, name) == name
    call = parts.read(kind, name)
    for parameter in call.signature.parameters.values():
        assert parameter.annotation not in (inspect.Parameter.empty, object), "each argument says its type"
        if parameter.default is not parameter.empty:
            written = repr(parameter.default)
            assert parts.canonical(kind, f"{name}({parameter.name}={written})") == name, parameter


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_part_has_a_line_that_says_what_it_is(kind, name):
    line = parts.describe(kind)[name]
    assert line.endswith("."), line
    assert list(parts.describe(kind)) == list(parts.names(kind))


@pytest.mark.parametrize(
    ("kind", "wrong"), list(itertools.product(parts.PARTS, ["nonsense", "nonsense(2)", "", "a b", "2", "elbo.weight"]))
)
def test_every_kind_refuses_other_names_in_one_line(kind, wrong):
    if not parts.names(kind):
        return
    with pytest.raises(ValueError, match="must be ") as caught:
        parts.make(kind, wrong)
    message = str(caught.value)
    assert message.startswith(f"{kind}={wrong!r}: must be ")
    assert "\n" not in message
    assert parts.names(kind)[0] in message


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [(kind, name, wrong) for kind, name in EVERY for wrong in ("nonsense=2", ", ".join(map(str, range(40))))],
)
def test_every_part_refuses_other_arguments_and_says_which_it_takes(kind, name, arguments):
    with pytest.raises(ValueError, match=r"argument.*; usage: ") as caught:
        parts.make(kind, f"{name}({arguments})", **PART_CONTEXT)
    assert f"; usage: {name}(" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "parameter"),
    [(kind, name, p) for kind, name in EVERY for p in parts.read(kind, name).signature.parameters],
)
def test_every_argument_refuses_other_types(kind, name, parameter):
    """None of them takes a set."""
    with pytest.raises(ValueError, match=re.escape(f"{parameter}={{1}}: must be ")):
        parts.make(kind, f"{name}({parameter}={{1}})", **PART_CONTEXT)


@pytest.mark.parametrize(("text", "made"), [
    ("pair", Pair(1.0, None, "x", False, 2)),
    (" pair(3) ", Pair(3.0, None, "x", False, 2)),
    ("pair(-3, b=1e-2)", Pair(-3.0, 0.01, "x", False, 2)),
    ("pair(b=inf, a=-inf)", Pair(float("-inf"), float("inf"), "x", False, 2)),
    ("pair(nan, None, word, True, 5)", Pair(float("nan"), None, "word", True, 5)),
    ("pair(word='two words', flag=False)", Pair(1.0, None, "two words", False, 2)),
    ("pair(word=pair)", Pair(1.0, None, "pair", False, 2)),  # where a string is wanted a word is one
    ("outer(none)", Pair(Pair(), "small", ())),
    ("outer(pair(2), large, (1, 2))", Pair(Pair(2.0, None, "x", False, 2), "large", (1, 2))),
    ("outer(outer(inner=none()), sizes=[3])", Pair(Pair(Pair(), "small", ()), "small", (3,))),
    ("anything(2)", Pair(2, None)),
    ("anything(none)", Pair(Pair(), None)),
    ("anything(word)", Pair("word", None)),
])  # fmt: skip
def test_texts_and_what_they_make(text, made):
    assert parts.make("thing", text) == made


def test_a_constructor_is_given_what_it_asks_for():
    context = {"gamma_min": -7.0, "a": 5.0, "flag": True, "others": 3}
    assert parts.make("thing", "anything", **context) == Pair(5.0, -7.0)
    assert parts.make("thing", "pair(word='y')", **context) == Pair(5.0, None, "y", True, 2)
    assert parts.make("thing", "outer(pair)", **context) == Pair(Pair(5.0, None, "x", True, 2), "small", ())


@pytest.mark.parametrize(("kind", "text", "name"), [
    ("schedule", "shifted_cosine(-2)", "gamma_min=-2.0"), ("schedule", "linear(gamma_max=3)", "gamma_max=3.0"),
    ("thing", "pair(0)", "a=0.0"), ("thing", "outer(pair(a=1))", "a=1.0"),
])  # fmt: skip
def test_what_the_context_gives_the_text_cannot(kind, text, name):
    """Else `shifted_cosine(-2)` would silently be one with another γ(0) than the config says."""
    with pytest.raises(parts.PartError, match=rf"{name} comes from the config: give the others by name; usage: "):
        parts.make(kind, text, gamma_min=-13.3, gamma_max=5.0, a=2.0)


@pytest.mark.parametrize(("text", "says"), [
    *((text, r"must be a name such as pair, or a name with arguments: name\(2, k=3.5\)") for text in (
        "", "pair(", "pair)", "2 +", "pair(a=1, a=2)", "pair(2 * 3)", "pair(1, **b)", "pair(*a)", "pair(-word)",
        "pair(a.b)", "pair(lambda: 1)", "pair(f'{1}')", "pair(1e999999999999j * 2)", "(" * 1000,
        "pair({[]: 1})", "pair((1, word))", "pair((1, pair))",
    )),
    *((text, "must be one of pair, outer, anything, none") for text in (
        "pear", "pair.real", "pair(1)(2)", "1", "lambda: 1", "(pair)()()", "__import__('os')", "pair(exit())",
    )),
    ("pair(1, 2, word, True, 3, 4)", "too many positional arguments; usage: pair"),
    ("pair(c=1)", r"unexpected keyword argument 'c'; usage: pair\(a=1.0, b=None, word='x', flag=False, n=2\)"),
    ("pair(1, a=2)", "multiple values for argument 'a'; usage: pair"),
    ("pair(13)", "a=13: must be another; usage: pair"),
    ("pair(True)", "a=True: must be a number; usage: pair"),
    ("pair('1')", "a='1': must be a number; usage: pair"),
    ("pair(word)", "a='word': must be a number; usage: pair"),
    ("pair(b=1j)", "b=1j: must be a number or None; usage: pair"),
    ("pair(word=3)", "word=3: must be a string; usage: pair"),
    ("pair(flag=1)", "flag=1: must be True or False; usage: pair"),
    ("pair(n=2.0)", "n=2.0: must be a whole number; usage: pair"),
    ("pair(n=True)", "n=True: must be a whole number; usage: pair"),
    ("pair(n=None)", "n=None: must be a whole number; usage: pair"),
    ("pair(1" + "0" * 400 + ")", "must be a number within the range of a float; usage: pair"),
    ("pair(a=none)", "a=none: must be a number; usage: pair"),
    ("pair(a=pair(2))", r"a=pair\(a=2.0\): must be a number; usage: pair"),
    ("outer", r"inner is missing; usage: outer\(inner, size='small', sizes=\(\)\)"),
    ("outer(word)", "inner='word': must be a Pair; usage: outer"),
    ("outer(none, huge)", "size='huge': must be 'small' or 'large'; usage: outer"),
    ("outer(none, sizes=3)", "sizes=3: must be a tuple, each a whole number; usage: outer"),
    ("outer(none, sizes=(1, 2.5))", "must be a tuple, each a whole number; usage: outer"),
    ("outer(pair(13))", "a=13: must be another; usage: pair"),
    ("none(1)", r"too many positional arguments; usage: none\(\)"),
])  # fmt: skip
def test_what_is_refused_is_one_line_with_what_is_allowed(text, says):
    with pytest.raises(ValueError, match=rf"^thing=.*: .*{says}") as caught:
        parts.make("thing", text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "canonical"), [
    ("pair(1)", "pair"),
    ("pair(2, word='a b')", "pair(a=2.0, word='a b')"),
    ("pair(word=y, a=2)", "pair(a=2.0, word='y')"),
    ("outer(pair(1), small)", "outer(inner=pair)"),
    ("outer(pair(inf), sizes=[1])", "outer(inner=pair(a=inf), sizes=(1,))"),
])  # fmt: skip
def test_one_text_for_what_means_the_same(text, canonical):
    assert parts.canonical("thing", text) == canonical
    assert parts.canonical("thing", canonical) == canonical
    assert parts.make("thing", canonical) == parts.make("thing", text)


def test_a_part_of_ones_own():
    parts.register("thing", "mine", none)
    parts.register("thing", "mine", none)
    assert parts.make("thing", "mine") == Pair()
    assert parts.names("thing")[-1] == "mine"
    for kind, name, says in (
        ("thin", "a", "must be one of schedule,"),
        ("thing", "a b", "must be letters"),
        ("thing", "pair", "is taken by another thing"),
    ):
        with pytest.raises(ValueError, match=says):
            parts.register(kind, name, none)


def test_what_a_constructor_says_of_input_is_left_as_it_is():
    def refuses() -> None:
        raise InputError("file.npz: no such file")

    parts.register("thing", "refuses", refuses)
    with pytest.raises(InputError, match=r"^file.npz: no such file$"):
        parts.make("thing", "refuses")


@pytest.mark.parametrize(("source", "error"), [("thing = = 1", SyntaxError), ("raise ValueError('mine')", ValueError)])
def test_what_a_part_s_own_module_raises_is_no_fault_of_the_text(tmp_path, monkeypatch, source, error):
    (tmp_path / "broken_part_of_this_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(parts.PARTS["thing"], "broken", "broken_part_of_this_test:thing")
    with pytest.raises(error) as caught:
        parts.make("thing", "broken")
    assert not isinstance(caught.value, parts.PartError)


def test_modules_of_ones_own_are_found_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "parts_of_this_test.py").write_text(
        "from vdm import parts\nparts.register('thing', 'written', lambda n=1: n)\n"
    )
    parts.import_modules(["parts_of_this_test"])
    assert parts.make("thing", "written(3)") == 3
    with pytest.raises(ValueError, match="no module 'not_there'"):
        parts.import_modules(["not_there"])


def test_importing_the_registry_imports_no_part():
    code = "import sys, vdm.parts; print(*sorted(m for m in sys.modules if m in ('jax', 'flax', 'numpy')))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == ""
