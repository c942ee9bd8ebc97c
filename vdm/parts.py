"""The registry of named parts, and the grammar by which a config or a flag names one: `shifted_cosine(shift=-2)`.

    sampler = parts.make("sampler", "predictor_corrector(predictor=heun(churn=0.1))")
    schedule = parts.make("schedule", "shifted_cosine(shift=-2)", gamma_min=-13.3, gamma_max=5.0)
    parts.register("schedule", "mine", my_schedule)

A text is a name, or a name with arguments in Python syntax: numbers, including inf and nan, True, False, None, strings,
tuples of these, and other parts of the same kind. A bare word is read as a part where a part is expected, and otherwise
as a string. Arguments are checked against the constructor's annotations, and ints become floats where those say float.
Only constructors in the registry are ever called.
"""

import ast
import importlib
import inspect
import sys
import typing
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vdm.annotations import convert, kinds, same
from vdm.errors import InputError
from vdm.reading import shown

Constructor = Callable[..., Any]

# As strings, so that importing this module imports no part.
PARTS: dict[str, dict[str, str | Constructor]] = {
    "schedule": {
        "linear": "vdm.schedules:linear",
        "cosine": "vdm.schedules:cosine",
        "shifted_cosine": "vdm.schedules:shifted_cosine",
        "beta_linear": "vdm.schedules:beta_linear",
        "learned_linear": "vdm.schedules:learned_linear",
        "learned_monotone": "vdm.schedules:learned_monotone",
    },
    "network": {
        "unet": "vdm.networks.unet:unet",
        "adm": "vdm.networks.adm:adm",
        "dit": "vdm.networks.dit:dit",
        "mlp": "vdm.networks.mlp:mlp",
    },
    "classifier": {"residual": "vdm.networks.classifier:residual"},
    "image_text": {"towers": "vdm.networks.image_text:towers"},
    "predecessor": {
        "vae": "vdm.predecessors.vae:vae",
        "hvae": "vdm.predecessors.hvae:hvae",
        "ladder": "vdm.predecessors.ladder:ladder",
    },
    "weighting": {
        "elbo": "vdm.weightings:elbo",
        "simple": "vdm.weightings:simple",
        "sigmoid": "vdm.weightings:sigmoid",
        "edm": "vdm.weightings:edm",
        "edm_monotonic": "vdm.weightings:edm_monotonic",
        "min_snr": "vdm.weightings:min_snr",
        "truncated_snr": "vdm.weightings:truncated_snr",
        "p2": "vdm.weightings:p2",
        "flow_matching": "vdm.weightings:flow_matching",
        "v_mse": "vdm.weightings:v_mse",
    },
    "proposal": {
        "uniform": "vdm.proposals:uniform",
        "adaptive": "vdm.proposals:adaptive",
        "importance": "vdm.proposals:importance",
        "log_normal": "vdm.proposals:log_normal",
        "logit_normal": "vdm.proposals:logit_normal",
    },
    "optimizer": {"adamw": "vdm.training.optimizers:adamw", "muon": "vdm.training.optimizers:muon"},
    "sampler": {
        "ancestral": "vdm.samplers.ancestral:ancestral",
        "ddpm": "vdm.samplers.ddpm:ddpm",
        "ddim": "vdm.samplers.ddim:ddim",
        "euler": "vdm.samplers.edm:euler",
        "heun": "vdm.samplers.edm:heun",
        "dpm_solver_pp": "vdm.samplers.dpm_solver:dpm_solver_pp",
        "unipc": "vdm.samplers.unipc:unipc",
        "predictor_corrector": "vdm.samplers.predictor_corrector:predictor_corrector",
    },
    "grid": {
        "schedule": "vdm.samplers.grids:schedule",
        "quadratic": "vdm.samplers.grids:quadratic",
        "uniform": "vdm.samplers.grids:uniform",
        "karras": "vdm.samplers.grids:karras",
        "cosine": "vdm.samplers.grids:cosine",
    },
    "clipping": {
        "none": "vdm.guidance:no_clipping",
        "static": "vdm.guidance:static_clipping",
        "dynamic": "vdm.guidance:dynamic_clipping",
    },
    "guidance": {
        "none": "vdm.guides:none",
        "classifier_free": "vdm.guides:classifier_free",
        "apg": "vdm.guides:apg",
        "autoguidance": "vdm.guides:autoguidance",
        "classifier": "vdm.guides:classifier",
        "clip": "vdm.guides:clip",
        "composed": "vdm.guides_composed:composed",
    },
    "operator": {
        "blur": "vdm.operators:blur",
        "downsample": "vdm.operators:downsample",
        "gray": "vdm.operators:gray",
        "missing": "vdm.operators:missing",
        "box": "vdm.operators:box",
    },
    "restoration": {
        "dps": "vdm.restorations:dps",
        "pigdm": "vdm.restorations:pigdm",
        "proximal": "vdm.restorations:proximal",
        "mmps": "vdm.restorations:mmps",
        "repaint": "vdm.restorations:repaint",
    },
    "decoding": {"mode": "vdm.decodings:mode", "mean": "vdm.decodings:mean", "draw": "vdm.decodings:draw"},
    "source": {
        "digits": "vdm.data.sources:digits",
        "photos32": "vdm.data.sources:photos32",
        "digits_captions": "vdm.data.captions.sources:digits_captions",
        "photos32_captions": "vdm.data.captions.sources:photos32_captions",
        "clusters": "vdm.data.toys:clusters",
        "moons": "vdm.data.toys:moons",
        "checkerboard": "vdm.data.toys:checkerboard",
        "spiral": "vdm.data.toys:spiral",
        "npz": "vdm.data.sources:npz",
        "folder": "vdm.data.sources:folder",
        "tfds": "vdm.data.sources:tfds",
    },
    "text": {
        "bytes": "vdm.data.encodings.utf8:utf8",
        "bpe": "vdm.data.encodings.pairs:bpe",
        "frozen": "vdm.data.encodings.frozen:frozen",
    },
    "metric": {
        "mmd": "vdm.evaluation.metrics.mmd:mmd",
        "fid": "vdm.evaluation.metrics.frechet:fid",
        "sfid": "vdm.evaluation.metrics.frechet:sfid",
        "fd_dinov2": "vdm.evaluation.metrics.frechet:fd_dinov2",
        "frechet": "vdm.evaluation.metrics.frechet:frechet",
        "fd_classifier": "vdm.evaluation.metrics.frechet:fd_classifier",
        "fid_infinity": "vdm.evaluation.metrics.frechet_infinity:fid_infinity",
        "inception_score": "vdm.evaluation.metrics.inception_score:inception_score",
        "classifier_score": "vdm.evaluation.metrics.inception_score:classifier_score",
        "kid": "vdm.evaluation.metrics.kid:kid",
        "precision": "vdm.evaluation.metrics.manifold:precision",
        "recall": "vdm.evaluation.metrics.manifold:recall",
        "density": "vdm.evaluation.metrics.manifold:density",
        "coverage": "vdm.evaluation.metrics.manifold:coverage",
        "memorization": "vdm.evaluation.metrics.memorization:memorization",
        "copies": "vdm.evaluation.metrics.memorization:copies",
        "class_accuracy": "vdm.evaluation.metrics.class_accuracy:class_accuracy",
    },
    "extractor": {
        "pixels": "vdm.evaluation.metrics.extractors.pixels:pixels",
        "inception": "vdm.evaluation.metrics.extractors.inception:inception",
        "dinov2": "vdm.evaluation.metrics.extractors.dinov2:dinov2",
        "classifier": "vdm.evaluation.metrics.extractors.classifier:classifier",
    },
    "tracker": {
        "jsonl": "vdm.runs.trackers.jsonl:Jsonl",
        "tensorboard": "vdm.runs.trackers.tensorboard:TensorBoard",
        "wandb": "vdm.runs.trackers.wandb:Wandb",
    },
}


LONGEST = 1000
"""Maximum number of characters of a text."""

NUMBERS = {"inf": float("inf"), "nan": float("nan")}
"""Numbers that are written as words."""


class PartError(ValueError):
    """A text that does not make a part: one line with its kind, the text, what is wrong and what is allowed."""

    def __init__(self, kind: str, text: str, problem: str, usage: str = ""):
        self.problem, self.usage = problem, usage
        super().__init__(f"{kind}={shown(text)}: {problem}" + f"; usage: {usage}" * bool(usage))


class Call(NamedTuple):
    """A text that has been read, before anything is made from it."""

    kind: str
    name: str
    constructor: Constructor
    signature: inspect.Signature
    arguments: dict[str, Any]
    """Arguments by parameter, in the order of the signature; a part is a `Call`."""

    @property
    def usage(self) -> str:
        """name(parameter=default, …)"""
        shown = (
            p.name if p.default is p.empty else f"{p.name}={_shown(p.default)}"
            for p in self.signature.parameters.values()
        )
        return f"{self.name}({', '.join(shown)})"

    def __str__(self) -> str:
        defaults = {p.name: p.default for p in self.signature.parameters.values()}
        written = {name: str(v) if isinstance(v, Call) else repr(v) for name, v in self.arguments.items()}
        given = [f"{name}={written[name]}" for name, v in self.arguments.items() if not same(v, defaults[name])]
        return f"{self.name}({', '.join(given)})" if given else self.name


def _shown(default: Any) -> str:
    """Show a default as a text would give it; objects that are not literals by their own name."""
    return repr(default) if isinstance(default, str) else str(default)


def make(kind: str, text: str, /, **context: Any) -> Any:
    """Return what the constructor that `text` names returns.

    From `context`, a constructor is given, by name, what it has parameters for. Raises `PartError` for an unknown name,
    for arguments that the constructor does not take or that come from the context, and for values that it refuses.

    >>> make("weighting", "sigmoid(2)").name
    'sigmoid(2.0)'
    >>> schedule = make("schedule", "shifted_cosine(shift=-2)", gamma_min=-10.0, gamma_max=5.0)
    >>> float(schedule.gamma({}, 0.0))
    -10.0
    """
    return _make(text, read(kind, text), context)


def check(kind: str, text: str, /, **context: Any) -> None:
    """Raise `PartError` where `make` does."""
    make(kind, text, **context)


def names(kind: str) -> tuple[str, ...]:
    """Return the names of the parts of this kind."""
    return tuple(PARTS[kind])


def describe(kind: str) -> dict[str, str]:
    """Return a one-line description of each part by name: the first line of its constructor's docstring."""
    return {name: (constructor(kind, name).__doc__ or "").strip().partition("\n")[0] for name in names(kind)}


def register(kind: str, name: str, constructor: Constructor) -> None:
    """Add a part of your own, for every config and flag that names a part of this kind.

    Raises ValueError for an unknown kind, for an invalid name, and for a name that another constructor has.

    >>> from vdm import samplers
    >>> register("sampler", "halfway", lambda: samplers.ddim(0.5))  # doctest: +SKIP
    """
    if kind not in PARTS:
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(PARTS)}")
    if not name.isidentifier():
        raise ValueError(f"name={name!r}: must be letters, digits and _")
    if PARTS[kind].setdefault(name, constructor) is not constructor:
        raise ValueError(f"name={name!r}: is taken by another {kind} already")


def import_modules(modules: Sequence[str]) -> None:
    """Import modules that `register` parts, also from the current folder. Raises ValueError if an import fails."""
    for module in modules:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"no module {error.name!r} on Python's path or in {here}") from error
        except Exception as error:  # whatever a user's module raises
            raise ValueError(f"{module}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def constructor(kind: str, name: str) -> Constructor:
    """Return the constructor of this name, which must be in `names(kind)`."""
    found = PARTS[kind][name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        return typing.cast(Constructor, getattr(importlib.import_module(module), attribute))
    return found


def canonical(kind: str, text: str) -> str:
    """Return the canonical text of a part: arguments by name, in order, without those at their defaults.

    Raises `PartError` as `read` does.
    """
    return str(read(kind, text))


def texts(several: str) -> list[str]:
    """Split a list of texts at its commas, except at commas in brackets.

    >>> texts("fid, precision(3, extractor='classifier')")
    ['fid', "precision(3, extractor='classifier')"]
    """
    found, depth = [""], 0
    for character in several:
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            found.append("")
        else:
            found[-1] += character
    return [text.strip() for text in found]


def read(kind: str, text: str) -> Call:
    """Read a text as a call with converted arguments. Raises `PartError` unless it is one."""
    if len(text) > LONGEST:
        raise PartError(kind, text, f"has {len(text)} characters; must be at most {LONGEST}")
    try:
        with warnings.catch_warnings(action="ignore"):  # e.g. for "1if x", which is refused below
            node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _no_call(kind, text) from None
    # Other errors come from a part's own module, whose import may fail.
    try:
        return _read(kind, text, node)
    except RecursionError:
        raise _no_call(kind, text) from None


def _no_call(kind: str, text: str) -> PartError:
    example = next(iter(PARTS[kind]))
    return PartError(kind, text, f"must be a name such as {example}, or a name with arguments: name(2, k=3.5)")


def _read(kind: str, text: str, node: ast.expr) -> Call:
    node = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in PARTS[kind]:
        raise PartError(kind, text, f"must be one of {', '.join(PARTS[kind])}")
    found = constructor(kind, name)
    call = Call(kind, name, found, _signature(found), {})
    values = [_value(kind, text, each) for each in node.args]
    named = {str(keyword.arg): _value(kind, text, keyword.value) for keyword in node.keywords}
    if len(named) < len(node.keywords) or any(keyword.arg is None for keyword in node.keywords):
        raise _no_call(kind, text)  # an argument twice, or **
    try:
        bound = call.signature.bind_partial(*values, **named).arguments
    except TypeError as error:
        raise PartError(kind, text, str(error), call.usage) from None
    for parameter, value in bound.items():
        annotation = call.signature.parameters[parameter].annotation
        if isinstance(value, _Word) and value in PARTS[kind] and str not in kinds(annotation):
            call.arguments[parameter] = _read(kind, text, ast.Name(value))
        elif isinstance(value, Call):
            # Its type is checked once it is made.
            call.arguments[parameter] = value
        else:
            given = str(value) if isinstance(value, _Word) else value
            call.arguments[parameter] = _converted(call, text, parameter, given)
    return call


def _converted(call: Call, text: str, parameter: str, value: Any, written: str | None = None) -> Any:
    try:
        return convert(value, call.signature.parameters[parameter].annotation)
    except ValueError as error:
        raise PartError(call.kind, text, f"{parameter}={written or shown(value)}: {error}", call.usage) from None


class _Word(str):
    """A bare word."""


def _value(kind: str, text: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _read(kind, text, node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Name):
        if node.operand.id not in NUMBERS:
            raise _no_call(kind, text)
        return -NUMBERS[node.operand.id]
    if isinstance(node, ast.Name):
        return NUMBERS.get(node.id, _Word(node.id))
    if isinstance(node, ast.Tuple | ast.List) and any(not isinstance(each, ast.Constant) for each in node.elts):
        values = tuple(_value(kind, text, each) for each in node.elts)
        if any(isinstance(value, Call | _Word) for value in values):
            raise _no_call(kind, text)  # a part or a word in a tuple
        return values
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise _no_call(kind, text) from None


def _make(text: str, call: Call, context: dict[str, Any]) -> Any:
    parameters = call.signature.parameters
    arguments = {name: value for name, value in context.items() if name in parameters}
    for name, value in call.arguments.items():
        if name in arguments:
            # E.g. `shifted_cosine(-2)`, whose first parameter is not the shift.
            raise PartError(
                call.kind, text, f"{name}={shown(value)} comes from the config: give the others by name", call.usage
            )
        arguments[name] = value
        if isinstance(value, Call):
            arguments[name] = _converted(call, text, name, _make(text, value, context), str(value))
    for p in parameters.values():
        if p.default is p.empty and p.name not in arguments:
            raise PartError(call.kind, text, f"{p.name} is missing", call.usage)
    try:
        return call.constructor(**arguments)
    except (PartError, InputError):
        raise
    except ValueError as error:
        raise PartError(call.kind, text, " ".join(str(error).split()), call.usage) from error


def _signature(constructor: Constructor) -> inspect.Signature:
    try:
        signature = inspect.signature(constructor, eval_str=True)
    except NameError:
        # Annotations may use names that are imported for the type checker only.
        signature = inspect.signature(constructor)
    # Parameters without an annotation accept any value; *args and **kwargs are never filled.
    named = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return signature.replace(parameters=[p.replace(annotation=Any) if p.annotation is p.empty else p for p in named])
