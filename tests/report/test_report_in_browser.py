"""The report in headless Chromium: no error, no request, axe, both widths and schemes, and by the keyboard."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import browser
import made_runs
import pytest

from vdm.files import write_json
from vdm.report import collect, page

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with everything, whose name and config are hostile."""
    folder = tmp_path_factory.mktemp("runs")
    run = made_runs.make_run(folder / "<img src=x onerror=window.hacked=1>")
    config = json.loads((run / "config.json").read_text())
    config["network"]["name"] = HOSTILE
    write_json(run / "config.json", config)
    (run / "evaluations").mkdir()
    write_json(run / "evaluations" / "step_400_draws_50_T_10.json", made_runs.evaluation(400) | {"num_steps": 10})
    (run / "samplers").mkdir()
    (run / "samplers" / "samplers.md").write_text("| sampler | 10 calls |\n|---|---|\n| ddim | 3.0 ± 0.2 |\n")
    write_json(run / "samplers" / "samplers.json", {})
    made_runs.draw(run / "samplers" / "samplers.png", 9)
    path = folder / "report.html"
    path.write_text(page([collect(run)], [{"Train it again": "vdm train --config=digits"}]), encoding="utf-8")
    return path


@pytest.fixture(
    scope="module", params=product(browser.WIDTHS, browser.SCHEMES), ids=lambda case: f"{case[0]}-{case[1]}"
)
def shown(report: Path, request: pytest.FixtureRequest) -> Iterator[browser.Shown]:
    with browser.page(report, *request.param, reduced_motion="reduce") as opened:
        yield opened


def test_it_is_as_it_should_be(shown: browser.Shown) -> None:
    """No error, no request, no code of others run; drawn; not wider than the window; and nothing that axe finds."""
    assert shown.page.locator(".chart canvas").count() == 10
    assert shown.page.evaluate("window.hacked") is None
    assert browser.overflow(shown) <= 0
    assert browser.violations(shown) == []
    shown.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.overflow(shown) <= 0
    assert browser.violations(shown) == []
    assert shown.errors == []
    assert shown.requests == []


def test_curves_have_ink(shown: browser.Shown) -> None:
    """More than one colour on each canvas."""
    colors = shown.page.evaluate(
        """() => [...document.querySelectorAll(".chart canvas")].map((canvas) => {
             const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
             const found = new Set();
             for (let k = 0; k < data.length; k += 4)
               if (data[k + 3] === 255) found.add(`${data[k]},${data[k + 1]},${data[k + 2]}`);
             return found.size;
           })"""
    )
    assert min(colors) > 1


def test_the_keyboard(shown: browser.Shown) -> None:
    """The skip link comes first; arrows move the slider and the cursor of a chart; keys zoom."""
    it = shown.page
    it.keyboard.press("Tab")
    assert it.evaluate("document.activeElement.className") == "skip"
    slider = it.locator("input[type=range]").first
    visible = "[...document.querySelectorAll('.frame')].filter((f) => !f.hidden).map((f) => f.dataset.title).join()"
    assert it.evaluate(visible) == "the end of training"
    slider.focus()
    it.keyboard.press("ArrowLeft")
    assert it.evaluate(visible) == slider.get_attribute("aria-valuetext") == "step 200"
    it.keyboard.press("Home")
    assert it.evaluate(visible) == "step 100"
    chart = it.locator("[data-chart=gamma]")
    chart.focus()
    said = it.locator("figure", has=chart).locator(".key span").first
    it.keyboard.press("ArrowRight")
    assert said.text_content() == "−7"
    it.keyboard.press("ArrowRight")
    assert said.text_content() == "−3"


def test_filter_theme_and_legend(shown: browser.Shown) -> None:
    it = shown.page
    rows = it.locator(".config tbody tr:visible")
    assert rows.count() == 3  # network.name, training.steps, training.batch_size
    it.locator(".only").uncheck()
    assert rows.count() > 50
    it.locator(".find").fill("optimizer.ema_decay")
    assert rows.count() == 1
    ground = "getComputedStyle(document.body).backgroundColor"
    before = it.evaluate(ground)
    it.locator(".theme").click()
    assert it.evaluate(ground) != before
    assert browser.violations(shown) == []
    key = it.locator(".key").first
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    key.click()
    it.get_by_role("button", name="Logarithmic scale: Variational bound").click()
    assert shown.errors == []
