"""What the programs share: flags, the config, help, and errors as one line with exit status 2."""

import argparse
import difflib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import config_flags
from rich.console import Console

from vdm import parallel, parts, reading, settings
from vdm.annotations import kinds, takes_none
from vdm.config import Config, validate
from vdm.errors import InputError, Stopped, is_disk_full, os_error
from vdm.programs import compilation, config_files, streams
from vdm.reading import shown
from vdm.runs.records import read_config

Program = Callable[[], None]
Given = dict[str, str]
"""The command line's flags by name, before they are parsed."""

HELP, HELP_FULL = ("--help", "-help", "-h", "--helpshort", "-helpshort"), ("--helpfull", "-helpfull")
COMMON = ("config", "workdir", "import")
"""Flags of every program with a config."""

HELP_WIDTH = 100
"""Columns of a text of help."""


class Own(NamedTuple):
    """A config of another class than `Config`, which a program makes of the flags given; there are no files of it."""

    kind: type
    make: Callable[[Given], tuple[Any, str]]
    """The config, and the default of --workdir."""
    workdir: str
    """That default in words."""


_default: dict[str, str] = {}
"""Of --workdir, by --config."""


class Interface(NamedTuple):
    """What a command takes."""

    parser: argparse.ArgumentParser | None = None
    """Of a command without a config."""
    define: Callable[[], None] | None = None
    """Makes the flags of a command with one, beside `COMMON`."""
    kinds: tuple[type, ...] = ()
    """Classes that its config may be of."""
    comparison: Callable[[Given], type] | None = None
    """The class of its second dataclass, by the flags given."""
    own: bool = False
    """Whether its config comes of no file."""


class _Found(BaseException):
    """Ends a command that `interface` has started."""


_observers: list[Callable[[Interface], None]] = []


def interface(main: Callable[[], Any]) -> Interface:
    """What a command takes, by its `main`: that is started, and ends where it would read its command line."""
    found: list[Interface] = []
    _observers.append(found.append)
    try:
        main()
    except _Found:
        return found[0]
    finally:
        _observers.pop()
    raise TypeError(f"{main}: read no command line")


def _observed(found: Interface) -> None:
    if _observers:
        _observers[-1](found)
        raise _Found


def config() -> Any:
    """The config as given on the command line, a `Config` unless the program has its `Own`.

    Raises `InputError` for values that no run could use.
    """
    value = flags.FLAGS.config
    validate(value)
    return value


def comparison() -> Any:
    """The second dataclass of a program that has one (see `run`). Raises `InputError` for values beyond limits."""
    value = flags.FLAGS.comparison
    settings.check(value, "comparison")
    return value


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
    compilation.keep()
    return streams.make_console(quiet=not parallel.is_main())


def given(define: Callable[[], None], taken: Sequence[str] | None) -> Any:
    """The flags' values by name. Raises `InputError` for one of those that `define` made, given and not `taken`.

    With None all are.
    """
    values = flags.FLAGS
    for flag in values.flags_by_module_dict().get(define.__module__, []):
        if taken is not None and flag.present and flag.name not in taken:
            raise InputError(f"--{flag.name}: is for diffusion models; this run is of a model before diffusion")
    return values


def workdir() -> Path:
    """--workdir, or runs/NAME for the config configs/NAME.py."""
    return Path(flags.FLAGS.workdir or _default["workdir"])


def define_out(name: str) -> None:
    """The flag --out of a program that leaves `name`, its results, in a run that it only reads."""
    flags.DEFINE_string("out", None, f"Folder to write {name} to; then nothing is written to --workdir.")


def out() -> Path | None:
    """--out. Raises `InputError` for the empty one."""
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
    """Defines flags, parses the command line and runs `program`; returns the exit status.

    Without a default config, the config is that of the run in --workdir; of a program with a flag --run, where that is
    given, that of the run there. `comparison` is for a program with a second dataclass, which --comparison.FIELD=VALUE
    changes and a config file's `get_comparison()` makes: which one it is, by the flags given. `kinds` are the classes
    that the config may be of; `own` is for a program whose config is of none that there are files or runs of.

    Raises `InputError` for bad input, and what else `vdm.programs.process` makes one line of.
    """
    _observed(Interface(None, define, tuple(kinds) if own is None else (own.kind,), comparison, own is not None))
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
        raise InputError(f"{folder}: the disk is full; with room on it, run the same command to go on") from error
    return 0


class Parser(argparse.ArgumentParser):
    """Of the commands without a config, `python -m vdm.…`: --help has the first paragraph of the description, its first
    example and the arguments, --helpfull the whole description; errors are as of `run`."""

    def __init__(self, prog: str, description: str | None):
        def formatter(prog: str) -> argparse.HelpFormatter:
            return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=HELP_WIDTH)

        # By the name that it was called by; actions of `vdm NAME` have theirs.
        called = sys.argv[0] if sys.argv[0].startswith("vdm ") and not prog.startswith("vdm ") else prog
        super().__init__(prog=called, formatter_class=formatter, allow_abbrev=False, add_help=False)
        self._full = inspect.cleandoc(description or "").replace(prog, called)
        first, example = _brief(self._full)
        self.description = f"{first}\n\nexample: {example}"
        self.add_argument("--help", "-h", action="help", help="show this help and exit")
        self.add_argument("--helpfull", action="store_true", help="show the full description and exit")
        for kind, read in ((int, reading.whole), (float, reading.number), (Path, _path)):
            self.register("type", kind, _argument(read))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Also heeds --helpfull, before any argument is found missing."""
        _observed(Interface(self))
        if any(argument in HELP_FULL for argument in (sys.argv[1:] if args is None else args)):
            self.description = self._full
            self.print_help()
            self.exit()
        return super().parse_known_args(args, namespace)

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


def _argument(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader as argparse wants it."""

    def argument(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{shown(text)}: {error}") from error

    return argument


def _path(text: str) -> Path:
    if not text:
        raise ValueError("must be the name of a file or folder")
    return Path(text)


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
        print(_help(argv[0], description, module, default_config, second, full, own, _documented(given, kinds)))
        sys.exit(0)
    _check_paths_and_numbers(given)
    folder = given.get("run", given.get("workdir", "runs/digits"))
    if own is not None:
        if "config" in given:
            raise InputError("--config: is made of the run in --run; single fields are --config.FIELD=VALUE")
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
    """Whose fields the help lists: those of the config file that --config names, if it does."""
    if "config" not in given or len(kinds) == 1:
        return kinds[0]
    return type(config_files.load(config_files.find(given["config"]), kinds).config)


def _second(made: Any, kind: type, given: Given) -> Any:
    """What get_comparison() made; the defaults without one, or where the default config makes another kind."""
    if isinstance(made, kind):
        return made
    if made is not None and "config" in given:
        found = type(made).__name__
        raise InputError(f"--config={given['config']}: get_comparison() returned {found}, not {kind.__name__}")
    return kind()


def _define(flag: str, value: Any, given: Given, argv: list[str]) -> list[str]:
    """Makes a flag of a dataclass, whose fields --FLAG.FIELD=VALUE change; returns what is left of the command line."""
    for field in settings.settings(value):
        name = f"{flag}.{field.name}"
        _check_number(name, given.get(name, ""), field.annotation)
        # Which ml_collections has no way to say.
        if given.get(name) == "None" and takes_none(field.annotation):
            group, _, last = field.name.rpartition(".")
            setattr(getattr(value, group) if group else value, last, None)
            argv = _without(argv, name)
    # Reads the overrides from argv already here.
    config_flags.DEFINE_config_dataclass(flag, value, sys_argv=argv)
    return argv


def _without(argv: list[str], name: str) -> list[str]:
    """The command line without the flag --NAME=VALUE or --NAME VALUE."""
    kept, words = [], iter(argv)
    for word in words:
        if word.startswith("-") and word.lstrip("-") == name:
            next(words, None)
        elif not (word.startswith("-") and word.lstrip("-").partition("=")[0] == name):
            kept.append(word)
    return kept


def _check_paths_and_numbers(given: Given) -> None:
    """Raises `InputError` for flags without a name of a folder, or with other numbers than `vdm.reading` takes.

    absl and ml_collections read "1_000" and "１", too, and an empty path is the current folder.
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
    # Without a value is for absl to say.
    if read is None or not text or (text == "None" and takes_none(annotation)):
        return
    try:
        read(text)
    except ValueError as error:
        raise InputError(f"--{flag}={shown(text)[1:-1]}: {error}") from error


def _check_fields(given: Given, flag: str, kind: type) -> None:
    fields = list(settings.flatten(kind()))
    if moved := next((name for name in given if name.startswith("config.comparison.")), None):
        raise InputError(f"--{moved}: compare.py's settings are --{moved.removeprefix('config.')}")
    if "config.network.dtype" in given:
        raise InputError("--config.network.dtype: is now --config.training.precision: float32, tf32, bfloat16")
    for name in given:
        if name.startswith(f"{flag}.") and (field := name.removeprefix(f"{flag}.")) not in fields:
            raise InputError(f"--{name}: no such field; valid: {', '.join(_near(field, fields))}")


def _is_flag(argument: str) -> bool:
    """Or else a value, which may be a negative number."""
    return re.match(r"-(?![.0-9])", argument) is not None


def _given(arguments: list[str]) -> dict[str, str]:
    """Flags by name, from --name=value and from --name value."""
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


def program_name(program: str) -> str:
    """How a program is called: `vdm train`, or `python train.py`."""
    return program if program.startswith("vdm ") else f"python {os.path.basename(program)}"


def _brief(description: str) -> tuple[str, str]:
    """A description's first paragraph, and the first of its examples: lines that begin with a command."""
    first = textwrap.fill(description.split("\n\n", maxsplit=1)[0], HELP_WIDTH)
    lines = (line.strip() for line in description.splitlines())
    return first, next((line for line in lines if line.startswith(("vdm ", "python "))), "")


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Names, and beside them their texts, broken into lines; those that a text has of its own are kept."""
    width = max(len(name) for name, _ in rows) + 4
    lines = []
    for name, text in rows:
        broken = [part for line in text.splitlines() for part in textwrap.wrap(line.strip(), HELP_WIDTH - width)]
        indented = [" " * width + part for part in broken]
        lines += [f"  {name:<{width - 2}}{broken[0]}", *indented[1:]]
    return lines


def _help(
    program: str,
    description: str | None,
    module: str,
    default_config: str | None,
    second: type | None,
    full: bool,
    own: Own | None = None,
    documented: type = Config,
) -> str:
    """The flags with one example, or all there is to say, with the fields of the dataclasses."""
    called = program_name(program)
    # As it is called, in the examples too; there is no docstring with python -OO.
    description = inspect.cleandoc(description or "").replace(
        f"vdm {re.split('[ /]', program)[-1].removesuffix('.py')} ", f"{called} "
    )
    first, example = _brief(description)
    default = f"default: {default_config}" if default_config else "default: that of the run in --workdir"
    of_a_release = "" if default_config else ", or vdm:NAME"
    rows = [
        ("--config", f"Config file, or the name of one in configs/ ({default}).\n{', '.join(config_files.names())}"),
        ("--workdir", f"Folder of the run{of_a_release} (default: runs/NAME for configs/NAME.py)."),
        ("--import", "MODULE[,MODULE]: your own modules that register parts, also in the current folder."),
    ]
    if own is not None:
        rows[:2] = [("--workdir", f"Folder that it is trained in (default: {own.workdir}).")]
    by_module = flags.FLAGS.flags_by_module_dict()
    # The program's own, and those of `define_processes`. What there is to choose from, a line each, is the fuller help.
    defined = [flag for of in (module, __name__) for flag in by_module.get(of, [])]
    rows += [(f"--{flag.name}", flag.help) for flag in defined]
    first_kind = documented if own is None else own.kind
    kinds = [(flag, kind) for flag, kind in (("config", first_kind), ("comparison", second)) if kind is not None]
    if not full:
        fields = " and ".join(f"--{flag}.FIELD=VALUE" for flag, _ in kinds)
        # What absl adds of a flag that may be given again begins with a semicolon.
        rows = [(name, text.splitlines()[0].removesuffix(";")) for name, text in rows]
        rows.append(("--helpfull", f"Say more, and list the fields that {fields} set{'s' * (len(kinds) == 1)}."))
        return "\n".join(
            [first, "", f"usage:   {called} [flags]", f"example: {example}", "", "flags:", *_columns(rows)]
        )
    lines = [description, "", f"usage: {called} [flags]", "", "flags:", *_columns(rows)]
    for flag, kind in kinds:
        lines += ["", f"{flag} fields (defaults of the dataclasses; the config file sets its own):"]
        for field in settings.settings(kind()):
            lines += [f"  --{flag}.{field.name}={field.value!r}", f"      {field.help}"]
    return "\n".join(lines)
