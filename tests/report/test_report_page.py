"""`vdm.report.page`: one file without requests, escaped, with the numbers of the run; `markup`, `curves`, `configs`."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_runs
import numpy as np
import pytest

from vdm.files import write_json
from vdm.report import collect, page
from vdm.report import curves as of_curves
from vdm.report.configs import differing, known
from vdm.report.markup import VOID, tag
from vdm.report.numbers import with_error
from vdm.report.results import markdown, row_of

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element's name and attributes, the text, and whether tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in (*VOID, "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.elements if element == name]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_runs.make_run(tmp_path / "digits")


def charts_of(text: str) -> dict[str, dict]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    return {chart["name"]: chart for chart in json.loads(found[1])["charts"]}


def test_everything_is_in_the_file(run: Path) -> None:
    text = page([collect(run)])
    found = Elements(text)
    assert len(text.encode()) < 300_000
    for name, attribute in (("img", "src"), ("script", "src"), ("link", "href")):
        assert all((of.get(attribute) or "data:").startswith("data:") for of in found.of(name))
    assert all(of["href"].startswith("#") for of in found.of("a"))
    assert "url(" not in text
    assert "@import" not in text


def test_the_numbers_of_the_run(run: Path) -> None:
    found = Elements(page([collect(run)], [{"Train it": "vdm train --config=digits"}]))
    for said in ("1.830 ± 0.014", "400", "digits", "8 × 8 × 1, 17 levels; 1,497 training, 300 test", "300 × 20",
                 "T\u00a0=\u00a0∞", "vdm train --config=digits", "0123456789", "2 × cpu"):  # fmt: skip
        assert said in found.text, said


def test_curves_are_those_of_the_logs(run: Path) -> None:
    charts = charts_of(page([collect(run)]))
    assert set(charts) == {"bits_per_dim", *made_runs.LOSSES, "grad_norm", "learning_rate", "images_per_second",
                           "variance", "gamma", "times"}  # fmt: skip
    by_name = {series["name"]: series for series in charts["bits_per_dim"]["series"]}
    tests = [each for each in made_runs.records(400, True) if each["kind"] == "evaluation"]
    assert by_name["test"]["x"] == [each["step"] for each in tests]
    assert by_name["test"]["y"] == pytest.approx([each["bits_per_dim"] for each in tests], rel=1e-5)
    assert by_name["test"]["error"] == [0.02] * len(tests)
    assert charts["gamma"]["series"][0]["y"] == [-7, -3, 5]
    assert charts["times"]["series"][0]["y"] == [1.9, None]


def test_high_losses_of_the_first_steps_are_out_of_range_at_first() -> None:
    values = [50.0, 20.0, *np.linspace(3, 2, 100).tolist()]
    low, high = of_curves.robust(values)
    assert low < 2
    assert 3 < high < 20
    assert of_curves.robust(np.linspace(3, 2, 100).tolist()) is None


def test_long_curves_are_shortened_to_means() -> None:
    x = [float(k) for k in range(10_000)]
    short_x, short_y, _ = of_curves.shortened(x, [2 * k for k in x], None)
    assert len(short_x) <= of_curves.MOST_POINTS
    assert short_y == pytest.approx([2 * k for k in short_x])
    assert short_x[0] == pytest.approx(np.mean(x[:7]))


def test_what_differs_from_the_defaults_is_marked(run: Path) -> None:
    text = page([collect(run)])
    changed = re.findall(r'<tr class="changed"><th scope="row"><code>([^<]*)', text)
    assert changed == ["training.steps", "training.batch_size"]
    rows = re.findall(r'<th scope="row"><code>([a-z_0-9.]+)</code>', text)
    assert set(known(collect(run).config)) == set(rows) - {"final"}


def test_several_runs(run: Path) -> None:
    other = made_runs.make_run(run.parent / "longer", steps=800, log_every=7)
    found = [collect(run), collect(other)]
    assert differing(found) == ["training.steps", "training.log_every"]
    text = page(found)
    parsed = Elements(text)
    assert text.index('id="differences"') < text.index('id="samples"')
    assert f"2 of {len(known(found[0].config))} fields differ between the runs" in parsed.text
    names = [series["name"] for series in charts_of(text)["bits_per_dim"]["series"]]
    assert {name.partition(",")[0] for name in names} == {"digits", "longer"}


def test_runs_of_one_name_and_their_parts_are_told_apart(run: Path) -> None:
    """Landmarks, ids and curves have names of their own, as screen readers need."""
    other = made_runs.make_run(run.parent / "elsewhere" / "digits")
    text = page([collect(run), collect(other)], [{"Train": "vdm train"}] * 2)
    found = Elements(text)
    regions = [of["aria-label"] for _, of in found.elements if of.get("role") == "region"]
    ids = [of["id"] for _, of in found.elements if "id" in of]
    names = [series["name"] for series in charts_of(text)["bits_per_dim"]["series"]]
    for each in (regions, ids, names):
        assert len(set(each)) == len(each)


def test_text_is_escaped(tmp_path: Path) -> None:
    """Of names, config, logs and files: what is hostile stays text."""
    run = made_runs.make_run(tmp_path / "<img src=x onerror=alert(1)>")
    config = json.loads((run / "config.json").read_text())
    config["network"]["name"] = config["data"]["name"] = HOSTILE
    config[HOSTILE] = {HOSTILE: HOSTILE}
    write_json(run / "config.json", config)
    write_json(run / "run.json", {"data": {"name": HOSTILE, "shape": [HOSTILE]}, "sessions": [{"command": [HOSTILE]}]})
    (run / "evaluations").mkdir()
    write_json(run / "evaluations" / "<b>bold.json", {HOSTILE: HOSTILE})
    (run / "guidance").mkdir()
    (run / "guidance" / "guidance.md").write_text(f"# {HOSTILE}\n\n| {HOSTILE} | b |\n|---|---|\n| 1 | {HOSTILE} |\n")
    write_json(run / "guidance" / "guidance.json", {})
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 500, HOSTILE: 1.0}) + "\n")
    found = Elements(page([collect(run)], [{HOSTILE: HOSTILE}]))
    assert not [attributes for _, attributes in found.elements if "onerror" in attributes]
    assert not found.of("b")
    assert len(found.of("script")) == 4
    assert found.text.count("window.hacked") > 5


WRONG: tuple[Any, ...] = (None, "", -1, 1e300, True, [], [[]], [{}], {}, {"": 0})


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list inside a value of JSON, with each of its keys."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@pytest.mark.parametrize("name", ["config.json", "run.json", "evaluation.json", "samples/mmd/metrics.json"])
def test_any_value_in_a_file_may_be_wrong(run: Path, name: str) -> None:
    """The page shows the rest, and its parts stay balanced."""
    score = {"value": 1.0, "stderr": 0.1, "lower_is_better": True, "title": "MMD", "cautions": ["few"]}
    (run / "samples" / "mmd").mkdir()
    write_json(run / "samples" / "mmd" / "metrics.json", {"of": {"num": 3}, "metrics": {"mmd": score}})
    whole = json.loads((run / name).read_text())
    found = collect(run)
    attribute = {"config.json": "config", "run.json": "record", "evaluation.json": "evaluation"}.get(name, "scores")
    spots = list(places(whole))
    for number, (table, key) in enumerate(spots[:: 1 + len(spots) // 12]):  # a page takes a tenth of a second
        kept, table[key] = table[key], WRONG[number % len(WRONG)]
        setattr(found, attribute, {"mmd": whole} if attribute == "scores" else whole)
        Elements(page([found]))
        table[key] = kept


def test_a_table_of_lines_alone() -> None:
    assert markdown("|---|\n\n|:-|\n", "nothing") == ""


def test_a_tag() -> None:
    assert (
        tag("a", "<", tag("b", '"'), title='"', hidden=True, lang=None)
        == '<a title="&quot;" hidden>&lt;<b>&quot;</b></a>'
    )
    assert tag("input", value="1") == '<input value="1">'


@pytest.mark.parametrize(
    ("value", "stderr", "said"),
    [(1.86093, 0.02, "1.861 ± 0.020"), (-0.14758, 0.02268, "−0.148 ± 0.023"), (98, 0.4, "98.00 ± 0.40"),
     (3.0, None, "3"), (None, 1.0, "–"), (123.4, 25.0, "123 ± 25"), (float("nan"), 1.0, "–")],
)  # fmt: skip
def test_errors_have_two_digits(value: float | None, stderr: float | None, said: str) -> None:
    assert with_error(value, stderr) == said


def test_evaluations_are_told_apart() -> None:
    bound = made_runs.evaluation(400)
    assert row_of(bound)[:2] == ("variational bound", "1.830 ± 0.014 bits/dim")
    assert row_of(bound | {"kind": "probability-flow ODE: …"}).kind == "probability-flow ODE"
    assert row_of({"accuracy": {"mean": 0.98, "stderr": 0.01}}).value == "0.980 ± 0.010 accuracy"
    assert row_of(bound | {"num_steps": 10}).where == "step 400, T\u00a0=\u00a010"


def test_markdown_tables() -> None:
    found = Elements(markdown("A *title*.\n\n| T | bits |\n|---|---:|\n| 10 | **2.1** |\n", "steps"))
    assert [name for name, _ in found.elements].count("tr") == 2
    assert "2.1" in found.text
    assert "**" not in found.text
