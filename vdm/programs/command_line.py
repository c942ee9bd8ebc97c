"""What all commands share: flags, the config, help, and errors as one line with exit status 2."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags
from rich.console import Console

from vdm import parallel, parts, reading, settings
from vdm.annotations import kinds, takes_none
from vdm.config import Config, validate
from vdm.errors import InputError, Stopped, is_disk_full
from vdm.programs import compilation, config_files, streams
from vdm.programs.help_text import HELP, HELP_FULL, Given, Own, help_of
from vdm.reading import shown
from vdm.runs.records import read_config

Program = Callable[[], None]

COMMON = ("config", "workdir", "import")
"""Flags of every command that takes a config."""


_default: dict[str, str] = {}
"""Default of --workdir, once the command line is parsed."""


class Interface(NamedTuple):
    """Flags and arguments that a command takes."""

    parser: argparse.ArgumentParser | None = None
    """Parser of a command without a config; None for one with a config."""
    define: Callable[[], None] | None = None
    """Defines the flags, other than `COMMON`, of a command with a config."""
    kinds: tuple[type, ...] = ()
    """Classes that its config may have."""
    comparison: Callable[[Given], type] | None = None
    """Returns the class of its second dataclass for the flags given."""
    own: bool = False
    """Whether the command builds its config itself (`Own`), so that no file makes it."""


class _Found(BaseException):
    """Ends a command that `interface` started."""


_observers: list[Callable[[Interface], None]] = []


def interface(main: Callable[[], Any]) -> Interface:
    """Return what a command takes: start its `main`, and end it where it would parse its command line."""
    found: list[Interface] = []
    _observers.append(found.append)
    try:
        main()
    except _Found:
        return found[0]
    finally:
        _observers.pop()
    raise TypeError(f"{main}: read no command line")


def observed(found: Interface) -> None:
    if _observers:
        _observers[-1](found)
        raise _Found


def config() -> Any:
    """Return the config as changed by the command line: a `Config` unless the command names other classes.

    Raises `InputError` for values that no run could use.
    """
    value = flags.FLAGS.config
    validate(value)
    return value


def comparison() -> Any:
    """Return the second dataclass of a command that has one, see `run`. Raises `InputError` for values out of range."""
    value = flags.FLAGS.comparison
    settings.check(value, "comparison")
    return value


def define_processes() -> None:
    """Define the flags of a command that several processes may run together: see `vdm.parallel.setup`."""
    where = "HOST:PORT of process 0, or auto on Slurm, Kubernetes, Open MPI or a TPU pod."
    flags.DEFINE_string("coordinator", None, where)
    flags.DEFINE_integer("num_processes", None, "With --coordinator=HOST:PORT: how many processes there are.")
    flags.DEFINE_integer("process_id", None, "With --coordinator=HOST:PORT: index of this process, from 0.")


def start() -> Console:
    """Set up devices and processes, and return this process's console; only that of the first process prints."""
    given = flags.FLAGS
    parallel.setup(coordinator=given.coordinator, num_processes=given.num_processes, process_id=given.process_id)
    compilation.keep()
    return streams.make_console(quiet=not parallel.is_main())


def given(define: Callable[[], None], taken: Sequence[str] | None) -> Any:
    """Return the flags' values by name.

    Raises `InputError` if a flag defined by `define` is given but is not among those `taken`; None takes all.
    """
    values = flags.FLAGS
    for flag in values.flags_by_module_dict().get(define.__module__, []):
        if taken is not None and flag.present and flag.name not in taken:
            raise InputError(f"--{flag.name}: is for diffusion models; this run is of a model before diffusion")
    return values


def workdir() -> Path:
    """Return --workdir, by default runs/NAME for the config configs/NAME.py."""
    return Path(flags.FLAGS.workdir or _default["workdir"])


def define_out(name: str) -> None:
    """Define --out for a command that otherwise writes its results, `name`, into the folder of a run."""
    flags.DEFINE_string("out", None, f"Folder to write {name} to, instead of --workdir.")


def out() -> Path | None:
    """Return --out, or None. Raises `InputError` if it is empty."""
    given = flags.FLAGS.out
    if given == "":
        raise InputError("--out=: must name a folder")
    return None if given is None else Path(given)


def run(
    program: Program,
    description: str | None,
    define: Callable[[], None],
    default_config: str | None = None,
    comparison: Callable[[Given], type] | None = None,
    own: Own | None = None,
    kinds: Sequence[type] = (Config,),
) -> int:
    """Define flags, parse the command line and run `program`; return the exit status.

    Without a default config, the config is that of the run in --workdir. A command that defines --run takes the config
    of that run wherever the flag is given. `comparison` is for a command with a second dataclass, which a config file's
    `get_comparison()` makes and --comparison.FIELD=VALUE changes; it returns the class for the flags given. `kinds` are
    the classes that the config may have; `own` is for a command that builds its config itself.

    Raises `InputError` for bad input, and other errors that `vdm.programs.process` prints as one line.
    """
    observed(Interface(None, define, tuple(kinds) if own is None else (own.kind,), comparison, own is not None))
    define()
    _parse(sys.argv, description, define.__module__, default_config, comparison, own, kinds)
    try:
        program()
    except Stopped as stopped:
        if parallel.is_main():
            print(f"{stopped}; run the same command to go on")
        return 128 + stopped.signal_number
    except Exception as error:
        if isinstance(error, InputError) or not is_disk_full(error):
            raise
        folder = f"--out={flags.FLAGS.out}" if flags.FLAGS.get_flag_value("out", None) else f"--workdir={workdir()}"
        raise InputError(f"{folder}: the disk is full; make room and run the same command to go on") from error
    return 0


def _parse(
    argv: list[str],
    description: str | None,
    module: str,
    default_config: str | None,
    comparison: Callable[[Given], type] | None,
    own: Own | None = None,
    kinds: Sequence[type] = (Config,),
) -> None:
    given = _given(argv[1:])
    modules = tuple(filter(None, given.get("import", "").split(",")))
    try:
        parts.import_modules(modules)
    except ValueError as error:
        raise InputError(f"--import={given['import']}: {error}") from error
    second = None if comparison is None else comparison(given)
    if any(argument in (*HELP, *HELP_FULL) for argument in argv[1:]):
        full = any(argument in HELP_FULL for argument in argv[1:])
        defining, documented = (module, __name__), _documented(given, kinds)
        print(help_of(argv[0], description, defining, default_config, second, full, own, documented))
        sys.exit(0)
    _check_paths_and_numbers(given)
    folder = given.get("run", given.get("workdir", "runs/digits"))
    if own is not None:
        if "config" in given:
            raise InputError("--config: is made from the run in --run; set single fields by --config.FIELD=VALUE")
        made, _default["workdir"] = own.make(given)
        loaded = config_files.Loaded(made, None)
    elif "config" not in given and (default_config is None or ("run" in given and "run" in flags.FLAGS)):
        _default["workdir"], loaded = folder, config_files.Loaded(read_config(Path(folder), *kinds), None)
    else:
        file = config_files.find(given.get("config", default_config or ""))
        _default["workdir"], loaded = str(Path("runs") / file.stem), config_files.load(file, kinds)
    _check_fields(given, "config", type(loaded.config))
    loaded.config.imports = tuple(dict.fromkeys((*loaded.config.imports, *modules)))
    argv = _without(argv, "config")
    try:
        argv = _define("config", loaded.config, given, argv)
        if second is not None:
            _check_fields(given, "comparison", second)
            argv = _define("comparison", _second(loaded.comparison, second, given), given, argv)
        for name in COMMON[1:]:
            flags.DEFINE_string(name, None, "")
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise InputError(str(error).strip().splitlines()[0]) from error
    if rest[1:]:
        raise InputError(f"unexpected argument {rest[1]!r}; see --help")


def _documented(given: Given, kinds: Sequence[type]) -> type:
    """Return the class whose fields the help lists: that of the config that --config names, if it is given."""
    if "config" not in given or len(kinds) == 1:
        return kinds[0]
    return type(config_files.load(config_files.find(given["config"]), kinds).config)


def _second(made: Any, kind: type, given: Given) -> Any:
    """Return what get_comparison() made; the defaults without one, or where the default config makes another kind.

    Raises `InputError` if the file that --config names makes another kind.
    """
    if isinstance(made, kind):
        return made
    if made is not None and "config" in given:
        found = type(made).__name__
        raise InputError(f"--config={given['config']}: get_comparison() returned {found}, not {kind.__name__}")
    return kind()


def _define(flag: str, value: Any, given: Given, argv: list[str]) -> list[str]:
    """Define --FLAG.FIELD=VALUE for the fields of a dataclass; return the rest of the command line."""
    for field in settings.settings(value):
        name = f"{flag}.{field.name}"
        _check_number(name, given.get(name, ""), field.annotation)
        # ml_collections has no syntax for None.
        if given.get(name) == "None" and takes_none(field.annotation):
            group, _, last = field.name.rpartition(".")
            setattr(getattr(value, group) if group else value, last, None)
            argv = _without(argv, name)
    # This call already reads the overrides from argv.
    config_flags.DEFINE_config_dataclass(flag, value, sys_argv=argv)
    return argv


def _without(argv: list[str], name: str) -> list[str]:
    """Return the command line without the flag --NAME=VALUE or --NAME VALUE."""
    kept, words = [], iter(argv)
    for word in words:
        if word.startswith("-") and word.lstrip("-") == name:
            next(words, None)
        elif not (word.startswith("-") and word.lstrip("-").partition("=")[0] == name):
            kept.append(word)
    return kept


def _check_paths_and_numbers(given: Given) -> None:
    """Raise `InputError` for an empty folder name, and for a number that `vdm.reading` does not accept.

    absl and ml_collections would also read "1_000" and "１", and an empty path would be the current folder.
    """
    for name in ("workdir", "run"):
        if given.get(name) == "":
            raise InputError(f"--{name}=: must be the name of a folder")
    parsers = {name: flags.FLAGS[name].parser for name in given if name in flags.FLAGS}
    for name, parser in parsers.items():
        kind = {flags.IntegerParser: int, flags.FloatParser: float}.get(type(parser))
        if kind is not None:
            _check_number(name, given[name], kind)


def _check_number(flag: str, text: str, annotation: Any) -> None:
    of = kinds(annotation)
    read = reading.number if float in of else reading.whole if int in of else None
    # absl itself reports a flag without a value.
    if read is None or not text or (text == "None" and takes_none(annotation)):
        return
    try:
        read(text)
    except ValueError as error:
        raise InputError(f"--{flag}={shown(text)[1:-1]}: {error}") from error


def _check_fields(given: Given, flag: str, kind: type) -> None:
    fields = list(settings.flatten(kind()))
    if moved := next((name for name in given if name.startswith("config.comparison.")), None):
        raise InputError(f"--{moved}: the settings of vdm compare are --{moved.removeprefix('config.')}")
    if "config.network.dtype" in given:
        raise InputError("--config.network.dtype: is now --config.training.precision: float32, tf32, bfloat16")
    for name in given:
        if name.startswith(f"{flag}.") and (field := name.removeprefix(f"{flag}.")) not in fields:
            raise InputError(f"--{name}: no such field; valid: {', '.join(_near(field, fields))}")


def _is_flag(argument: str) -> bool:
    """Tell a flag from a value, which may be a negative number."""
    return re.match(r"-(?![.0-9])", argument) is not None


def _given(arguments: list[str]) -> dict[str, str]:
    """Return the flags' values by name, from --name=value and from --name value."""
    given = {}
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if _is_flag(argument):
            name, equals, value = argument.lstrip("-").partition("=")
            given[name] = value if equals or _is_flag(following) else following
    return given


def _near(name: str, fields: list[str]) -> list[str]:
    group = name.rpartition(".")[0]
    siblings = [field for field in fields if field.rpartition(".")[0] == group]
    if (group and siblings) or not any("." in field for field in fields):
        return siblings
    return difflib.get_close_matches(name, fields, n=3, cutoff=0.3) or sorted({f.split(".")[0] for f in fields})
