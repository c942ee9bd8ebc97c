"""All parts that a config or a flag can name, by kind, with their arguments and the first lines of their docstrings."""

from collections.abc import Callable, Collection

from docs_hooks.api import INTERNAL
from docs_hooks.markup import entry, prose
from vdm import classifier, image_text
from vdm import parts as registry
from vdm.config import Config, network_context, optimizer_context, schedule_context
from vdm.predecessors.config import PredecessorConfig, model_context

KINDS = {
    "schedule": ("Noise schedules", "--config.schedule.name"),
    "network": ("Networks", "--config.network.name"),
    "classifier": ("Networks of classifiers", "vdm classifier --config.network.name"),
    "image_text": ("Networks of image–text models", "vdm clip --config.network.name"),
    "predecessor": ("Models before diffusion", "--config.model.name"),
    "weighting": ("Weightings of the loss", "--config.objective.weighting"),
    "proposal": ("Noise levels of a batch", "--config.objective.proposal"),
    "optimizer": ("Optimizers", "--config.optimizer.name"),
    "sampler": ("Samplers", "--config.sampling.sampler"),
    "grid": ("Noise levels of a sampler", "--config.sampling.grid"),
    "clipping": ("Clipping of x̂", "--config.sampling.clip"),
    "guidance": ("Guidance", "--config.sampling.guidance"),
    "operator": ("Operators of restoration", "vdm restore --operator"),
    "restoration": ("Methods of restoration", "vdm restore --method"),
    "decoding": ("From z₀ to an image", "--config.sampling.decode"),
    "source": ("Data", "--config.data.name"),
    "text": ("Encodings of captions", "--config.data.text"),
    "metric": ("Sample quality", "vdm evaluate --metrics"),
    "tracker": ("Trackers", "--config.training.loggers"),
    "extractor": ("Feature extractors of metrics", "vdm metrics statistics --extractor"),
}
"""Heading of each kind of part, and the flag or field that names one."""


CONTEXTS: dict[str, Callable[[], Collection[str]]] = {
    "schedule": lambda: schedule_context(Config()),
    "network": lambda: network_context(Config()),
    "classifier": lambda: classifier.network_context(classifier.ClassifierConfig()),
    "image_text": lambda: image_text.network_context(image_text.ImageTextConfig()),
    "predecessor": lambda: model_context(PredecessorConfig()),
    "optimizer": lambda: {"rate", *optimizer_context(Config())},
}
"""Names of the arguments that the config supplies to parts of each kind."""


def parts() -> str:
    """Return the page's Markdown, with a section for each kind. Raises KeyError for a kind without a heading."""
    return "\n\n".join(_section(kind) for kind in registry.PARTS)


def _section(kind: str) -> str:
    heading, where = KINDS[kind]
    lines = [f"## {heading} {{#{kind}}}", f"`{where}`"]
    return "\n\n".join(lines + [_entry(kind, name, line) for name, line in registry.describe(kind).items()])


def _entry(kind: str, name: str, line: str) -> str:
    read = registry.read(kind, name)
    given = _of_config(kind)
    arguments = [
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in read.signature.parameters.values()
        if p.name not in given
    ]
    call = f"{name}({', '.join(arguments)})" if arguments else name
    target = str(registry.PARTS[kind][name]).replace(":", ".")
    documented = target.split(".")[1] not in INTERNAL
    term = f"[`{call}`][{target}]" if documented else f"`{call}`"
    used = ", ".join(f"`{p}`" for p in read.signature.parameters if p in given)
    more = [f"*From the config:* {used}"] if used else []
    return entry(f'<span id="{kind}.{name}"></span>{term}', prose(line), *more)


def _of_config(kind: str) -> Collection[str]:
    """Return the names of arguments that parts of this kind take from the config."""
    return CONTEXTS[kind]() if kind in CONTEXTS else ()
