"""Print a shell script that completes commands, flags, names of configs and fields of configs.

vdm completion bash
eval "$(vdm completion bash)"

To have completion in every new shell, put the second line into ~/.bashrc, `eval "$(vdm completion zsh)"` into ~/.zshrc,
or `vdm completion fish | source` into ~/.config/fish/config.fish. The first completion after an installation takes some
seconds: it lists the flags of all commands, and keeps the list in the cache folder of vdm.
"""

from collections.abc import Sequence

from vdm.programs.arguments import Parser
from vdm.programs.completion import SCRIPTS


def main(argv: Sequence[str] | None = None) -> None:
    """Print the script."""
    parser = Parser("vdm completion", __doc__)
    parser.add_argument("shell", choices=list(SCRIPTS))
    print(SCRIPTS[parser.parse_args(argv).shell], end="")
