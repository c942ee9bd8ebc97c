"""The kinds of runs that `vdm train` makes, by the class of their config, and what opening one needs to know of it."""

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
    """What a config of one class describes."""

    resolve: Callable[[Any, Dataset], Any]
    """(config, dataset) -> the config with what the data have of it. Raises `InputError` if it asks for other data."""
    model: Callable[[Any], Any]
    """The model, float32."""
    objective: Callable[[Any], Objective]
    """What is minimised of it."""
    same: Mapping[str, str]
    """Fields of the config, and what a model given in place of the config's calls them."""


def _resolve(config: PredecessorConfig, dataset: Dataset) -> PredecessorConfig:
    """Shape and levels of the data, and, for a model that takes labels, how many there are."""
    data, info = sources.resolve_shape(config.data, dataset), dataset.info
    of_labels = "classes" in parts.read("predecessor", config.model.name).signature.parameters
    if of_labels and config.data.labels and info.classes is not None:
        data = sources.resolve_others(data, info.name, classes=len(info.classes))
    return replace(config, data=data)


def _objective(config: PredecessorConfig) -> Objective:
    """Raises `InputError` for settings of a bound where there is none."""
    model, c = predecessors.from_config(config), config.objective
    if isinstance(model, LadderNetwork):
        for name, value in settings.flatten(c).items():
            if value != getattr(LatentObjectiveConfig(), name):
                raise InputError(f"config.objective.{name}={value}: is of a bound; a ladder network has none")
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
    """The entry of a config's class, or of one that it inherits from. Raises TypeError where there is none."""
    found = next((entry for kind, entry in kinds.items() if isinstance(config, kind)), None)
    if found is None:
        allowed = " or a ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"config is a {type(config).__name__}: must be a {allowed}")
    return found


def resolve(config: Any, dataset: Dataset) -> Any:
    """The config with shape, levels and labels as the data have them. Raises `InputError` if it asks for others."""
    return of(config, KINDS).resolve(config, dataset)


def objective_of(config: RunConfig) -> Objective:
    """The objective that a config describes."""
    return of(config, KINDS).objective(config)


def model_of(config: Any, given: Any = None) -> Any:
    """The model of a config, or the given one, computed in float32.

    Raises `InputError` if that is of other images or steps, and for a `precision` that its network cannot compute in.
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
            raise InputError(f"config.{field}={of_config!r}: must be {of_model!r}, as the model given has it")
    return model
