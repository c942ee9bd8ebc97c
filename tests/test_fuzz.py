"""The grammar of parts and the loader of configs: whatever comes in, what comes out is a value or one line."""

import json
import math
import typing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import PART_CONTEXT

from vdm import parts
from vdm import settings as fields
from vdm.annotations import kinds
from vdm.comparisons import modes
from vdm.config import Config, from_dict, to_dict, validate
from vdm.errors import InputError
from vdm.runs.records import read_config

CONTEXT = PART_CONTEXT | {"dropout": 0.0, "b1": 0.9, "b2": 0.99, "weight_decay": 0.01}
KINDS = [kind for kind in parts.PARTS if kind not in ("source", "extractor")]
NAMES = sorted({name for kind in KINDS for name in parts.names(kind)})
INFINITE = ("s_min", "s_max", "norm")
"""Where an infinite number means something: no end, no limit."""

NUMBERS = ["nan", "inf", "-inf", "1e400", "-1e400", "-1", "-0.0", "9223372036854775808", "0x" + "f" * 900, "1_0", "²",
           "１", "1j", "True", "None", "()", "(1,)", "'a'", "[]", "{}", "heun"]  # fmt: skip

words = st.sampled_from([*NAMES, *NUMBERS, "churn", "eta", "shift", "x"])
texts = st.recursive(
    words,
    lambda inner: st.builds(
        lambda name, arguments: f"{name}({', '.join(arguments)})",
        words,
        st.lists(inner | st.builds("{}={}".format, words, inner), max_size=3),
    ),
    max_leaves=4,
) | st.text(max_size=30)


def one_line(error: Exception) -> bool:
    return len(str(error).splitlines()) == 1 and len(str(error)) < 3000


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), texts)
@example("sampler", "ddim(" * 50 + ")" * 50)
@example("sampler", "-" * 100_000 + "1")
@example("sampler", "ddim(" + "9" * 100_000 + ")")
@example("sampler", "ddim\x00")
@example("sampler", "ddim('\\d')")
@example("sampler", "1if x else y")
@pytest.mark.filterwarnings("error")
def test_any_text_is_a_part_or_one_line(kind, text):
    for read in (parts.canonical, lambda kind, text: parts.check(kind, text, **CONTEXT)):
        try:
            read(kind, text)
        except (parts.PartError, InputError) as error:
            assert one_line(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("kind", "name", "parameter"),
    [
        (kind, name, p.name)
        for kind in KINDS
        for name in parts.names(kind)
        for p in parts.read(kind, name).signature.parameters.values()
        if float in kinds(p.annotation)
    ],
)
def test_every_number_of_a_part_refuses_nan_and_infinity(kind, name, parameter):
    """In its own words, or because it comes from the config."""
    for bad in ("nan", "-inf", *(() if parameter in INFINITE else ("inf", "1e400"))):
        with pytest.raises(parts.PartError, match=rf"{parameter}=.*(must be|comes from)|must be .*{parameter}"):
            parts.check(kind, f"{name}({parameter}={bad})", **CONTEXT)


NUMERIC = [
    (dataclass, field)
    for dataclass in (Config, *(modes.load(mode).settings for mode in modes.MODES))
    for field in fields.settings(dataclass())
    if {int, float} & set(kinds(field.annotation))
    or any(int in typing.get_args(kind) for kind in kinds(field.annotation))
]
NONE = (
    math.nan,
    math.inf,
    -math.inf,
    1e400,
    2**31,
    2**63,
    10**5000,
    -(2**31),
    "",
    "1",
    "²",
    True,
    [],
    {},
    ("a",),
    (math.nan,),
)
WIDE = {"seed": (2**31,), "optimizer.learning_rate": (2**31, 2**63), "optimizer.schedule_learning_rate": (2**31, 2**63),
        "optimizer.weight_decay": (2**31, 2**63), "optimizer.clip_norm": (2**31, 2**63)}  # fmt: skip


@pytest.mark.parametrize(("dataclass", "field"), NUMERIC, ids=lambda value: getattr(value, "name", None))
def test_every_numeric_field_refuses_what_is_no_number_of_it(dataclass, field):
    assert field.limits
    for bad in NONE:
        if bad in WIDE.get(field.name, ()) or (bad == [] and "tuple" in str(field.annotation)):
            continue
        problem = field._replace(value=bad).problem()
        assert problem is not None, (field.name, str(bad)[:40])
        assert one_line(ValueError(problem))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_to_a_config_is_a_config_or_one_line(data):
    values = json.loads(json.dumps(to_dict(Config())))
    values["schedule"] |= data.draw(
        st.sampled_from([{}, {"shift": 1.0, "hidden": 4}, {"shift": "a"}, {"hidden": None}])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        inside = values
        while True:
            name = data.draw(st.sampled_from(sorted(inside)))
            if not (isinstance(inside[name], dict) and inside[name] and data.draw(st.booleans())):
                break
            inside = inside[name]
        new = data.draw(json_values)
        inside[data.draw(st.sampled_from([name, name, name, "²"]))] = new
    try:
        config = from_dict(values)
        config.imports = ()
        config.data.shape, config.data.levels = config.data.shape or (8, 8, 1), config.data.levels or 17
        validate(config)
    except InputError as error:
        assert one_line(error)  # noqa: PT017
    else:
        assert from_dict(json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


def test_a_config_of_other_tables_says_where(tmp_path):
    for values, says in (
        ({"training": [1]}, "training: found a list; must be a table of steps, "),
        ({"training": 3}, "training: found a number; must be a table"),
        ({"schedule": "a"}, "schedule: found a string; must be a table"),
        ({"schedule": {"name": "shifted_cosine", "shift": "a"}}, "schedule: shift='a': must be a number"),
        ({"seed": "a"}, "seed='a': must be a whole number"),
        ({"training": {"steps": 0}}, r"training\.steps=0: must be 1 or more"),
        ({"network": {"fourier": ["a"]}}, r"network\.fourier=\['a'\]: must be a tuple, each a whole number"),
        ({"sampling": {"sampler": "nonsense"}}, r"sampling\.sampler='nonsense': must be one of"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(InputError, match=f"config.json: {says}") as caught:
            read_config(tmp_path)
        assert one_line(caught.value)
