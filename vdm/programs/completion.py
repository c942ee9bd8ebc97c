"""Shell completion of `vdm`: commands, flags, names of configs, fields of configs and their values.

The table of what can be completed is built by importing all commands, which takes seconds. It is kept in the user's
cache folder until a file of the package changes, so that completion itself imports nothing slow.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import vdm
from vdm import files, reading
from vdm.errors import InputError

COMPLETE = "complete"
"""The command that the shell scripts call; --help does not list it."""

BASH = """# bash: eval "$(vdm completion bash)"
_vdm() {
    local line="${COMP_LINE:0:COMP_POINT}" word start
    word="${line##* }"
    # Readline replaces what comes after the last = or : alone.
    start="${word%"${word##*[=:]}"}"
    local IFS=$'\\n'
    COMPREPLY=($(vdm complete "$line" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$start"}")
}
complete -o nospace -o default -F _vdm vdm
"""

ZSH = """# zsh: eval "$(vdm completion zsh)"
_vdm() {
    local -a found
    found=("${(@f)$(vdm complete "${LBUFFER}" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( ${#found} )); then
        compadd -Q -S '' -a found
    else
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _vdm vdm
"""

FISH = """# fish: vdm completion fish | source
complete -c vdm -n 'test (count (commandline -opc)) -lt 2' -f
complete -c vdm -a '(vdm complete (commandline -cp) 2>/dev/null)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def completions(line: str, table: Mapping[str, Any]) -> list[str]:
    """Return the completions of the last word of a command line, cut at the cursor; a complete word ends in a space.

    The table is {"commands": {name: {"flags", "words", "kinds", "actions"}}, "fields": {kind: {field: values}},
    "configs": names}.

    >>> table = {"commands": {"train": {"flags": {"--resume": []}, "kinds": []}}, "fields": {}, "configs": []}
    >>> completions("vdm tr", table), completions("vdm train --r", table)
    (['train '], ['--resume='])
    """
    _, *words = f"{line}|".split()
    before, word = words[:-1], words[-1].removesuffix("|") if words else ""
    if not before:
        return _begin_with(word, [f"{name} " for name in (*table["commands"], "--help ", "--version ")])
    command = _command(table["commands"], before)
    if command is None:
        return []
    flag, equals, _ = word.partition("=")
    if equals:
        values = table["configs"] if flag == "--config" else _values(table, command, flag)
        return _begin_with(word, [f"{flag}={value} " for value in values])
    if word.startswith("-"):
        flags = [f"{name} " if values is None else f"{name}=" for name, values in command["flags"].items()]
        return _begin_with(word, sorted({*flags, *_next(word, _fields(table, command))}))
    return _begin_with(word, [f"{value} " for value in command.get("words", [])])


def read_table() -> dict[str, Any]:
    """Return the table for the package's present files: from the cache, or built in a process of its own."""
    folder = files.cache_folder("completion")
    if folder is None:
        return _made()
    path = folder / f"{_version()}.json"
    try:
        return reading.read_json(path)
    except InputError:
        made = _made()
    for old in folder.glob("*.json"):
        old.unlink(missing_ok=True)
    files.write_json(path, made)
    return made


def _made() -> dict[str, Any]:
    command = [sys.executable, "-m", "vdm.programs.completion_table"]
    made = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    return reading.parse_json(made, "completion")


def _version() -> str:
    """Return a digest of the package's files, by their modification times and sizes."""
    package = Path(vdm.__file__).parent
    # A checkout has the configs beside the package.
    paths = [*package.rglob("*.py"), *(package.parent / "configs").glob("*.py")]
    stats = ((path, path.stat()) for path in sorted(paths))
    told = "\n".join(f"{path} {stat.st_mtime_ns} {stat.st_size}" for path, stat in stats)
    return hashlib.sha256(f"{sys.executable}\n{told}".encode()).hexdigest()[:16]


def _command(commands: Mapping[str, Any], words: list[str]) -> Any:
    """Return what the command takes, or, of a command with actions, what the action named after it takes."""
    command = commands.get(words[0])
    if command is not None and len(words) > 1 and words[1] in command.get("actions", {}):
        return command["actions"][words[1]]
    return command


def _fields(table: Mapping[str, Any], command: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the values by --config.FIELD, for all classes that the config may have."""
    return {f"--{name}": values for kind in command["kinds"] for name, values in table["fields"][kind].items()}


def _values(table: Mapping[str, Any], command: Mapping[str, Any], flag: str) -> list[str]:
    return command["flags"].get(flag) or _fields(table, command).get(flag, [])


def _next(word: str, fields: Iterable[str]) -> set[str]:
    """Return the fields that begin with the word, cut after the next dot."""
    found = set()
    for field in fields:
        if field.startswith(word):
            head, dot, _ = field[len(word) :].partition(".")
            found.add(f"{word}{head}{dot or '='}")
    return found


def _begin_with(word: str, candidates: Iterable[str]) -> list[str]:
    return [candidate for candidate in candidates if candidate.startswith(word)]
