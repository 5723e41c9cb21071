"""The page in a browser: it draws, fetches nothing, complains of nothing, fits a phone, and a tool finds no barrier."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import a_pair
from report.document.test_settings import SWEEP
from report.test_baselines import compared, judged

from pytest_ftcheck import Run
from pytest_ftcheck.baseline.past import Accepted, Past, Pasts
from pytest_ftcheck.predict.forecast import Forecast
from pytest_ftcheck.report.document.findings import Findings
from pytest_ftcheck.report.document.writing import written

playwright: Any = pytest.importorskip("playwright.sync_api", reason="no browser: tox run -e browser")
axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no browser: tox run -e browser")
# Two of each recipe, and one of the sweep.
FIGURES = 7
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or os.environ.get("FTCHECK_CHROMIUM")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of three recipes, one with markup for a name, a prediction, a sweep and a baseline that did not hold."""
    runs = []
    for number, name in enumerate(("first", "<script>document.title = 'broken'</script>", "third")):
        pair = a_pair(dict.fromkeys((1, 10, 30, 100), (0.1 * number, 0.1, 0.12)), recipe=name, train=(1.0,) * 100)
        runs += [run.to_json() for run in (*pair.fulls, *pair.loras)]
    first = Run.from_json(runs[0])
    forecast = Forecast(first.recipe, "full", first.declaration, "float32", 4, 2, "", first.memory)
    judgement = judged("failed", compared(), compared("loss", "passed"))
    before = Accepted("1 MB", 1e6, "the first", "0123456789ab", "2026-01-02")
    records = {
        "runs": runs,
        "forecasts": [forecast.to_json()],
        "sweeps": [SWEEP.to_json()],
        "judgements": [judgement.to_json()],
    }
    pasts = Pasts((Past(judgement.test, "lora/memory.peak_bytes", "cpu", (before,), (1e6, 2e6)),))
    found = Findings(records, "18 executed: 18 passed", ("it failed",), "today", "0.1.0", pasts)
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(written(found, "html"))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_it_draws_fits_fetches_nothing_and_has_no_barrier(browser: Any, address: str, scheme: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_selector(".plot svg.main-svg")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.title() == "ftcheck: full fine-tuning and LoRA"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    page.close()


def test_figures_below_are_drawn_when_they_are_come_to(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.goto(address)
    page.wait_for_selector(".plot svg.main-svg")
    assert 0 < page.locator(".plot:has(svg.main-svg)").count() < FIGURES
    page.keyboard.press("End")
    page.wait_for_function(f"document.querySelectorAll('.plot').length === {FIGURES}")
    page.locator(".plot").last.scroll_into_view_if_needed()
    page.wait_for_selector(".plot:has(svg.main-svg) >> nth=-1")
    page.close()
