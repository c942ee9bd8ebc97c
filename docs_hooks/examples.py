"""examples/*.py as pages of the site: converted by jupytext, executed by nbclient, rendered as Markdown with pictures.

Every example with cells becomes a page with its pictures and a notebook to download, and index.md lists them all.
VDM_EXAMPLES sets the mode: `full` (the default), `small` (settings that take seconds) or `skip` (not executed, so
without outputs). Executed notebooks are cached in .cache/examples/ under a hash of everything that they depend on.

    python -m docs_hooks.examples [NAME …]     # executes them, and prints how many seconds each took
"""

import base64
import functools
import hashlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbclient
import nbformat
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
SOURCES, CACHE = ROOT / "examples", ROOT / ".cache" / "examples"
MODES = ("full", "small", "skip")
SECONDS_A_CELL = 1800

REPOSITORY = ""
"""Address of a public repository, as https://github.com/OWNER/vdm. If set, pages link to hosted notebook services."""

ORDER = (
    "toy",
    "discrete_vs_continuous",
    "learned_schedule",
    "samplers",
    "released_model",
    "guidance",
    "captions",
    "restoration",
    "compress_an_image",
)
"""Examples with cells, in the order of the index."""


class Page(NamedTuple):
    """A page of the site."""

    path: str
    """Path below docs/."""
    title: str
    """Title in the navigation."""
    text: str
    """Content as Markdown."""
    files: dict[str, bytes]
    """Pictures and the notebook, by path below docs/."""


class ExampleError(RuntimeError):
    """An example raised an exception; the message has the example's name, the exception and the cell."""


def pages() -> dict[str, tuple[str, str]]:
    """Return titles and Markdown by path in the site. Raises as `built` does."""
    return {page.path: (page.title, page.text) for page in built(_mode())}


def files() -> dict[str, bytes]:
    """Return pictures and notebooks by path in the site. Raises as `built` does."""
    return {path: content for page in built(_mode()) for path, content in page.files.items()}


@functools.cache
def built(mode: str) -> tuple[Page, ...]:
    """Build the index and a page for each example.

    Raises `ExampleError` if a cell raises an exception.
    """
    notebooks = {name: executed(name, mode) for name in ORDER}
    return index(notebooks), *(page(name, notebook) for name, notebook in notebooks.items())


def executed(name: str, mode: str) -> nbformat.NotebookNode:
    """Return the notebook of an example with its outputs, from the cache if nothing has changed since.

    Its metadata record how long it took: {"vdm": {"seconds": …}}.
    """
    notebook = converted(name)
    if mode == "skip":
        return notebook
    cached = CACHE / f"{name}-{mode}-{_digest(name)}.ipynb"
    if cached.is_file():
        return nbformat.read(cached, as_version=4)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        environment = os.environ | {"VDM_EXAMPLES": mode, "IPYTHONDIR": folder, "PYTHONPATH": path}
        environment.pop("MPLBACKEND", None)
        client = nbclient.NotebookClient(
            notebook,
            timeout=SECONDS_A_CELL,
            kernel_name="python3",
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}),
            startup_timeout=600,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--InlineBackend.figure_formats={'retina'}"],
        )
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            raise ExampleError(f"examples/{name}.py raised {error.ename}: {error.evalue}\n{error}") from error
    notebook.metadata["vdm"] = {"seconds": time.perf_counter() - start}
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{name}-{mode}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, cached)
    return notebook


def converted(name: str) -> nbformat.NotebookNode:
    """Convert an example to a notebook without outputs."""
    notebook = jupytext.read(SOURCES / f"{name}.py", fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same in every build
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def for_download(name: str, notebook: nbformat.NotebookNode) -> bytes:
    """Return the notebook as a file that also runs elsewhere: its first code cell installs vdm if it is missing."""
    own = nbformat.from_dict(notebook)
    source = "\n".join(
        (
            "# On a hosted notebook service: install vdm.",
            "import importlib.util",
            "",
            'if importlib.util.find_spec("vdm") is None:',
            f"    %pip install --quiet {_installed_from()}",
        )
    )
    install = nbformat.v4.new_code_cell(source, id="install")
    own.cells = [own.cells[0], install, *(_relinked(cell) for cell in own.cells[1:])]
    return nbformat.writes(own).encode()


def page(name: str, notebook: nbformat.NotebookNode) -> Page:
    """Render a page: text cells as they are, code cells fenced, each followed by what it printed and drew."""
    parts, files = [], {f"examples/{name}.ipynb": for_download(name, notebook)}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", ()):
            text = output.get("text") if output.get("name") == "stdout" else output.get("data", {}).get("text/plain")
            picture = output.get("data", {}).get("image/png")
            if picture:
                file = f"{name}-{len(files)}.png"
                files[f"examples/{file}"] = base64.b64decode(picture)
                parts.append(f"![{_caption(cell)}]({file})")
            elif text:
                parts.append(f'```text title="output"\n{text.rstrip()}\n```')
    title, _, rest = "\n\n".join(parts).partition("\n")
    return Page(f"examples/{name}.md", _title(notebook), f"{title}\n\n{_links(name, notebook)}\n{rest}\n", files)


def index(notebooks: dict[str, nbformat.NotebookNode]) -> Page:
    """Render the index, with a card for each example: its last picture, its question and how long it took."""
    cards = []
    for name, notebook in notebooks.items():
        title, question = _title(notebook), _question(notebook)
        pictures = [file for file in page(name, notebook).files if file.endswith(".png")]
        picture = f"    [![{title}]({Path(pictures[-1]).name}){{ .vdm-thumbnail }}]({name}.md)\n\n" if pictures else ""
        cards.append(f"-   **[{title}]({name}.md)**\n\n{picture}    {question}{_took(notebook)}\n")
    text = (
        f'{INTRODUCTION}{NOTES[_mode()]}\n<div class="grid cards" markdown>\n\n'
        + "\n".join(cards)
        + f"\n</div>\n\n{HOSTED}"
    )
    return Page("examples/index.md", "Worked examples", text, {})


INTRODUCTION = """# Worked examples

Each page is a script in `examples/`, executed when this site was built: what you see below a cell is what it printed.
Run a script as it is, open it cell by cell in Jupyter (with jupytext), VS Code or Spyder, or download the notebook from
its page.

```sh
python examples/toy.py
VDM_EXAMPLES=small python examples/toy.py     # seconds, to see that it runs
```

Every example takes less than five minutes on a CPU. There is one more, `examples/minimal.py`, to be read in an
editor: a complete model of digits in a single file of less than 150 lines.
"""

NOTES = {
    "full": "",
    "small": """

!!! warning "Built at small size"

    To save time, this copy of the site was built with `VDM_EXAMPLES=small`. The outputs only show that the code runs;
    they are not the results that the text describes.
""",
    "skip": """

!!! warning "Not executed"

    This copy of the site was built with `VDM_EXAMPLES=skip`, so there are no outputs.
""",
}
"""Notes for pages that were not built in full."""

HOSTED = """## On a hosted notebook service

Each notebook runs on a CPU of any hosted service (Colab, Kaggle, Binder, …). Download it with the link at the top of
its page and upload it there. Its first code cell installs vdm if it is missing.
"""
if not REPOSITORY:
    HOSTED += """
That cell expects two wheels beside the notebook, so upload them too: vdm, and its released models. In a clone of the
repository,

```sh
pip wheel --no-deps --wheel-dir dist . ./models
```

writes them to `dist/`.
"""


def _mode() -> str:
    mode = os.environ.get("VDM_EXAMPLES", "full")
    if mode not in MODES:
        raise ValueError(f"VDM_EXAMPLES={mode}: must be one of {', '.join(MODES)}")
    return mode


def _installed_from() -> str:
    """Return the arguments of pip: vdm and its released models, from the repository or from local wheels."""
    if not REPOSITORY:
        return "vdm*.whl"
    return f'"vdm @ git+{REPOSITORY}" "vdm-models @ git+{REPOSITORY}#subdirectory=models"'


def _links(name: str, notebook: nbformat.NotebookNode) -> str:
    links = [f"[Download the notebook]({name}.ipynb){{ download }}"]
    if REPOSITORY:
        place = REPOSITORY.removeprefix("https://github.com/")
        links.append(f"[Open in Colab](https://colab.research.google.com/github/{place}/blob/notebooks/{name}.ipynb)")
    links.append(f"source: `examples/{name}.py`")
    return " · ".join(links) + _took(notebook, " · took {} when this page was built") + NOTES[_mode()]


def _took(notebook: nbformat.NotebookNode, form: str = " *{}*") -> str:
    seconds = notebook.metadata.get("vdm", {}).get("seconds")
    return "" if seconds is None else form.format(f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min")


def _title(notebook: nbformat.NotebookNode) -> str:
    return str(notebook.cells[0].source).partition("\n")[0].removeprefix("# ")


def _question(notebook: nbformat.NotebookNode) -> str:
    """Return the first paragraph below the title."""
    return " ".join(notebook.cells[0].source.split("\n\n")[1].split())


def _caption(cell: nbformat.NotebookNode) -> str:
    """Return a description of a picture for screen readers, from the titles and labels in its code."""
    said = re.findall(r'(?:title=|title\(|label=)f?"([^"]+)"', cell.source)
    return "figure: " + ", ".join(dict.fromkeys(said)) if said else "figure"


def _relinked(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Turn links to other examples into links to their notebooks, and remove other links between pages."""
    if cell.cell_type != "markdown":
        return cell
    own = nbformat.from_dict(cell)
    own["source"] = re.sub(r"\]\((\w+)\.md\)", r"](\1.ipynb)", own.source)
    own["source"] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", own.source)
    return own


def _digest(name: str) -> str:
    """Return a hash of everything that an example's outputs depend on: its source, the package and the models."""
    digest = hashlib.sha256()
    files = [SOURCES / f"{name}.py", *sorted((ROOT / "vdm").rglob("*.py"))]
    files += sorted((ROOT / "models").glob("*/*.safetensors")) + sorted((ROOT / "models").glob("*/*.json"))
    for path in files:
        digest.update(f"{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def main() -> None:
    """Execute the named examples, or all of them, and print how long each took."""
    mode = _mode()
    for name in sys.argv[1:] or ORDER:
        notebook = executed(name, mode)
        print(f"{name:24}{notebook.metadata['vdm']['seconds']:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
