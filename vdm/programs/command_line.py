"""What the programs share: flags, the config, help, and errors as one line with exit status 2."""

import argparse
import ast
import difflib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags
from rich.console import Console

from vdm import config as config_lib
from vdm import parallel
from vdm.config import Config
from vdm.errors import InputError, Stopped, is_disk_full
from vdm.runs.records import read_config

Program = Callable[[], None]

SAVED_CONFIG = str(Path(__file__).parents[1] / "saved_config.py")


def config() -> Config:
    """The config as given on the command line. Raises `InputError` if the file does not make one."""
    value = flags.FLAGS.config
    if not isinstance(value, Config):
        raise InputError(f"--config={config_file()}: get_config() returned {type(value).__name__}, not vdm's Config")
    config_lib.validate(value)
    return value


def config_file() -> str:
    """The path given to --config."""
    return str(config_flags.get_config_filename(flags.FLAGS["config"]))


def define_processes() -> None:
    """Flags of a program that several processes may run together: see `vdm.parallel.setup`."""
    where = "Several processes: HOST:PORT of the first, or auto on Slurm, Kubernetes, Open MPI or a TPU pod."
    flags.DEFINE_string("coordinator", None, where)
    flags.DEFINE_integer("num_processes", None, "With --coordinator=HOST:PORT: how many processes there are.")
    flags.DEFINE_integer("process_id", None, "With --coordinator=HOST:PORT: which of them this is, from 0.")


def start() -> Console:
    """Sets up devices and processes, and returns the console of this one: only the first prints."""
    given = flags.FLAGS
    parallel.setup(coordinator=given.coordinator, num_processes=given.num_processes, process_id=given.process_id)
    return Console(highlight=False, quiet=not parallel.is_main())


def workdir() -> Path:
    """--workdir, or runs/NAME for the config configs/NAME.py."""
    if flags.FLAGS.workdir:
        return Path(flags.FLAGS.workdir)
    name, _, argument = config_file().partition(":")
    return Path(argument) if name == SAVED_CONFIG else Path("runs") / Path(name).stem


def run(program: Program, description: str, default_config: Path | None = None) -> NoReturn:
    """Parses the command line and runs `program`; bad input is one line on stderr and exit status 2.

    Without a default config, the config is that of the run in --workdir; of a program with a flag --run, where that is
    given, that of the run there.
    """
    try:
        _parse(sys.argv, description, default_config)
        quiet()
        program()
    except InputError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted", status=130)
    except Stopped as stopped:
        if parallel.is_main():
            print(f"{stopped}; run the same command to go on")
        sys.exit(128 + stopped.signal_number)
    except Exception as error:
        if is_disk_full(error):
            _fail(f"--workdir={workdir()}: the disk is full; with room on it, run the same command to go on")
        if not isinstance(error, OSError):
            raise
        # Files the user named; a bug of ours would not be an OSError.
        _fail(os_error(error))
    sys.exit(0)


def quiet() -> None:
    """Silences what libraries say beside our one line."""
    # After a failed read, what its sibling reads raise in their threads; it would follow our one line.
    sys.unraisablehook = lambda unraisable: None
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # What a killed data worker leaves in shared memory is cleaned up; the process that does it need not say so.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    # Orbax and TFDS report their inner workings, and what we catch, as warnings and errors.
    absl_logging.set_verbosity(absl_logging.FATAL)


class Parser(argparse.ArgumentParser):
    """Of the commands without a config, `python -m vdm.…`: help is the description as it stands, errors as of `run`."""

    def __init__(self, prog: str, description: str | None):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        print("error: " + " ".join(message.split()), file=sys.stderr)
        sys.exit(2)

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """What is wrong with input and files, raised within, as `error`."""
        try:
            yield
        except InputError as error:
            self.error(str(error))
        except OSError as error:
            self.error(os_error(error))


def os_error(error: OSError) -> str:
    """FILE: what is wrong with it."""
    return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")


def _fail(message: str, status: int = 2) -> NoReturn:
    sys.stdout.flush()
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    parallel.leave()
    # Without a farewell from background threads: everything of ours is closed.
    os._exit(status)


def _parse(argv: list[str], description: str, default_config: Path | None) -> None:
    if any(argument in ("--help", "-h", "-help", "--helpfull", "--helpshort") for argument in argv[1:]):
        print(_help(argv[0], description, default_config))
        sys.exit(0)
    given = _given(argv[1:])
    if "config" in given and not os.path.isfile(given["config"]):
        raise InputError(f"--config={given['config']}: no such file")
    defaults = config_lib.flatten(Config())
    fields = {name: name.removeprefix("config.") for name in given if name.startswith("config.")}
    for field in fields.values():
        if field not in defaults:
            raise InputError(_unknown_field(field, list(defaults)))
    # Optional fields set to None, which ml_collections has no way to say.
    nones = {name: field for name, field in fields.items() if given[name] == "None" and defaults[field] is None}
    argv = [argument for argument in argv if argument.lstrip("-") not in {f"{name}=None" for name in nones}]
    folder = given.get("run", given.get("workdir", "runs/digits"))
    saved = default_config is None or ("run" in given and "run" in flags.FLAGS)
    if saved and "config" not in given:
        read_config(Path(folder))
    default = f"{SAVED_CONFIG}:{folder}" if saved else str(default_config)
    try:
        # Reads the overrides --config.FIELD=VALUE from argv already here.
        config_flags.DEFINE_config_file("config", default, sys_argv=argv)
        flags.DEFINE_string("workdir", None, "")
        rest = flags.FLAGS(argv)
        loaded = flags.FLAGS.config
        for field in nones.values():
            group, _, name = field.rpartition(".")
            setattr(getattr(loaded, group), name, None)
    except flags.Error as error:
        # What a config file raises comes wrapped in its traceback: the last line says it.
        message = str(error).strip().splitlines()
        raise InputError(f"--config={default}: {message[-1]}" if "Traceback" in str(error) else message[0]) from error
    except Exception as error:  # whatever a user's config file raises
        raise InputError(f"{type(error).__name__}: {error}") from error
    if rest[1:]:
        raise InputError(f"unexpected argument {rest[1]!r}; see --help")


def _given(arguments: list[str]) -> dict[str, str]:
    """Flags by name, from --name=value and from --name value."""
    given = {}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            given[name] = value if equals or following.startswith("-") else following
    return given


def _unknown_field(name: str, fields: list[str]) -> str:
    group = name.rpartition(".")[0]
    siblings = [field for field in fields if field.rpartition(".")[0] == group]
    if not siblings:
        near = difflib.get_close_matches(name, fields, n=3, cutoff=0.3)
        siblings = near or sorted({field.split(".")[0] for field in fields})
    return f"--config.{name}: no such field; valid: {', '.join(siblings)}"


def _help(program: str, description: str, default_config: Path | None) -> str:
    config = f"configs/{default_config.name}" if default_config else "that of the run in --workdir"
    lines = [
        inspect.cleandoc(description),
        "",
        f"usage: python {os.path.basename(program)} [flags]",
        "",
        "flags:",
        f"  --config: Config file (default: {config}).",
        "  --workdir: Folder of the run (default: runs/NAME for --config=configs/NAME.py).",
    ]
    by_module = flags.FLAGS.flags_by_module_dict()
    # Ours, `define_processes`, and the program's own.
    lines += [f"  --{flag.name}: {flag.help}" for module in (__name__, program) for flag in by_module.get(module, [])]
    lines += ["", "config fields (defaults of the dataclasses; the config file sets its own):"]
    docs = _field_docs()
    for name, value in config_lib.flatten(Config()).items():
        lines += [f"  --config.{name}={value!r}", f"      {docs[name]}"]
    return "\n".join(lines)


def _field_docs() -> dict[str, str]:
    """The docstring under each field of the config's dataclasses, by dotted name."""
    by_class: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(config_lib)).body:
        if isinstance(node, ast.ClassDef):
            docs = by_class[node.name] = {}
            for field, doc in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(doc, ast.Expr)
                    and isinstance(doc.value, ast.Constant)
                ):
                    docs[ast.unparse(field.target)] = str(doc.value.value)

    def doc_of(name: str) -> str:
        group, _, field = name.rpartition(".")
        owner: Any = getattr(Config(), group) if group else Config()
        return by_class[type(owner).__name__].get(field, "")

    return {name: doc_of(name) for name in config_lib.flatten(Config())}
