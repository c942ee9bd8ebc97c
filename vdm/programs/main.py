"""The command `vdm`, which runs all others by name: `vdm train --config=digits` is `python train.py …`."""

import difflib
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import vdm
from vdm.errors import InputError
from vdm.programs import completion, environment, process

COMMANDS = {
    "train": ("vdm.programs.commands.train", "Train a model, evaluate it and draw samples from it."),
    "evaluate": ("vdm.programs.commands.evaluate", "Measure bits/dim of the test images, with a standard error."),
    "sample": ("vdm.programs.commands.sample", "Draw images from a trained model with any sampler."),
    "edit": ("vdm.programs.commands.edit", "Fill in or change given images with a trained model."),
    "restore": ("vdm.programs.commands.restore", "Restore blurred, small, gray or partly missing images."),
    "compare": ("vdm.programs.commands.compare", "Compare models, families, objectives, samplers, guidance or codecs."),
    "metrics": ("vdm.programs.commands.metrics", "Score any images by FID, KID and others; convert weights for them."),
    "classifier": ("vdm.programs.commands.classifier", "Train a classifier on the noisy images of a run."),
    "clip": ("vdm.programs.commands.clip", "Train an image–text model on the noisy images of a run."),
    "compress": ("vdm.programs.commands.compress", "Compress images without loss with a trained model."),
    "decompress": ("vdm.programs.commands.decompress", "Restore the images of a compressed file, bit for bit."),
    "codec-info": ("vdm.programs.commands.codec_info", "Describe a compressed file, and check that it is intact."),
    "export": ("vdm.export.programs", "Write a model's weights and programs, which need only JAX."),
    "push": ("vdm.programs.commands.push", "Release a trained run, in a folder or on the Hugging Face hub."),
    "pull": ("vdm.programs.commands.pull", "Fetch a released model, which vdm:NAME then opens."),
    "official": ("vdm.official", "Make a run of a checkpoint of google-research/vdm."),
    "report": ("vdm.programs.commands.report", "Write one HTML page about a run, or about several side by side."),
    "verify": ("vdm.verify.table", "Check this installation against closed forms."),
    "info": ("vdm.programs.commands.info", "Describe this installation, for a bug report."),
    "completion": ("vdm.programs.commands.completion", "Print a script that completes commands in your shell."),
    "plots": ("vdm.programs.commands.plots", "Draw schedules, weightings, samplers at work and latents of runs."),
}
"""Commands by name: the module with its `main`, and a line on what it does."""


def main() -> NoReturn:
    """Run `vdm` as a process of its own, from the command line to its exit status."""
    process.run(lambda: call(sys.argv[1:]))


def run(name: str) -> NoReturn:
    """Run a command as a process of its own, as `python NAME.py` and `python -m vdm.NAME` do."""
    process.run(lambda: _module(name).main())


def call(argv: Sequence[str]) -> int | None:
    """Run the command that the first argument names, in this process. Raises `InputError` for an unknown command."""
    name, *arguments = list(argv) or ["--help"]
    if name in ("--help", "-h", "help", "--helpfull"):
        print(_help())
        return 0
    if name == "--version":
        print(_version())
        return 0
    if name == completion.COMPLETE:
        print("\n".join(completion.completions(" ".join(arguments), completion.read_table())))
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"must be one of {', '.join(COMMANDS)}"
        raise InputError(f"vdm {name}: no such command; {hint}")
    sys.argv = [f"vdm {name}", *arguments]
    return _module(name).main()


def _module(name: str) -> Any:
    module = importlib.import_module(COMMANDS[name][0])
    environment.ready()
    return module


def _version() -> str:
    """Return the versions of vdm, Python, jax, jaxlib and flax."""
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "flax"))
    return f"vdm {vdm.__version__} (Python {platform.python_version()}, {others})"


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    more = (
        "`vdm COMMAND --help` has the flags of a command, `vdm COMMAND --helpfull` the full help; "
        "`vdm --version` the versions."
    )
    example = "vdm train --config=digits"
    usage = ["usage:   vdm COMMAND [flags]", f"example: {example}"]
    return "\n".join(["Variational diffusion models.", "", *usage, "", *lines, "", more])
