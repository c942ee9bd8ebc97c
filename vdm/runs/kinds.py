"""The kinds of runs that `vdm train` makes, by the class of their config, and how to construct their parts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from vdm import model as model_lib
from vdm import parts, settings
from vdm.config import Config, RunConfig
from vdm.data import Dataset, sources
from vdm.errors import InputError
from vdm.predecessors import config as predecessors
from vdm.predecessors.bound import LatentBound
from vdm.predecessors.config import LatentObjectiveConfig, PredecessorConfig
from vdm.predecessors.ladder import LadderNetwork
from vdm.predecessors.ladder_costs import LadderCosts
from vdm.training import objective
from vdm.training.task import Objective

Entry = TypeVar("Entry")


class Kind(NamedTuple):
    """How to build what a config of one class describes."""

    resolve: Callable[[Any, Dataset], Any]
    """(config, dataset) -> the config completed from the data. Raises `InputError` if it specifies other data."""
    model: Callable[[Any], Any]
    """Build the model, in float32."""
    objective: Callable[[Any], Objective]
    """Build the training objective."""
    same: Mapping[str, str]
    """Config fields that must match a model supplied by the caller, and the model's attributes for them."""


def _resolve(config: PredecessorConfig, dataset: Dataset) -> PredecessorConfig:
    """Fill in shape and levels from the data and, for a model that takes labels, the number of classes."""
    data, info = sources.resolve_shape(config.data, dataset), dataset.info
    of_labels = "classes" in parts.read("predecessor", config.model.name).signature.parameters
    if of_labels and config.data.labels and info.classes is not None:
        data = sources.resolve_others(data, info.name, classes=len(info.classes))
    return replace(config, data=data)


def _objective(config: PredecessorConfig) -> Objective:
    """Build the objective. Raises `InputError` for settings of a bound if the model has none."""
    model, c = predecessors.from_config(config), config.objective
    if isinstance(model, LadderNetwork):
        for name, value in settings.flatten(c).items():
            if value != getattr(LatentObjectiveConfig(), name):
                raise InputError(f"config.objective.{name}={value}: applies to a bound; a ladder network has none")
        return LadderCosts.of(model)
    return LatentBound(model.num_layers, c.beta, c.warmup_steps, c.free_bits)


_IMAGES = {"data.shape": "shape", "data.levels": "levels"}
KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        Config: Kind(
            sources.resolve,
            model_lib.from_config,
            objective.from_config,
            _IMAGES | {"objective.num_steps": "num_steps"},
        ),
        PredecessorConfig: Kind(_resolve, predecessors.from_config, _objective, _IMAGES),
    }
)


def of(config: Any, kinds: Mapping[type, Entry]) -> Entry:
    """Return the entry for the config's class or a parent class. Raises TypeError if there is none."""
    found = next((entry for kind, entry in kinds.items() if isinstance(config, kind)), None)
    if found is None:
        allowed = " or a ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"config is a {type(config).__name__}: must be a {allowed}")
    return found


def resolve(config: Any, dataset: Dataset) -> Any:
    """Return the config completed with the data's shape, levels and labels. Raises `InputError` if it differs."""
    return of(config, KINDS).resolve(config, dataset)


def objective_of(config: RunConfig) -> Objective:
    """Return the objective that a config describes."""
    return of(config, KINDS).objective(config)


def model_of(config: Any, given: Any = None) -> Any:
    """Return the model of a config, or the given model, with computation in float32.

    Raises `InputError` if the given model is for other images or another number of steps, and for a `precision` that
    the network does not support.
    """
    kind = of(config, KINDS)
    model = kind.model(config) if given is None else model_lib.at_precision(given, "float32", "evaluation")
    for group in ("training", "evaluation", "sampling"):
        model_lib.at_precision(model, getattr(config, group).precision, group)
    if given is None:
        return model
    flat = settings.flatten(config)
    for field, attribute in kind.same.items():
        of_config, of_model = flat[field], getattr(given, attribute)
        of_model = tuple(of_model) if attribute == "shape" else of_model
        if of_config != of_model:
            raise InputError(f"config.{field}={of_config!r}: must be {of_model!r}, as in the given model")
    return model
