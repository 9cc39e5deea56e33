"""The page in a browser (Chromium, driven by Selenium): it sorts, filters, keeps its state in the
address, and asks nobody for anything.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airepair.records import read
from airepair.report import paper
from airepair.report.cells import grid
from airepair.report.leaderboard import HEADINGS, LABELS, leaderboard
from airepair.report.table1 import table1
from airepair.report.table2 import table2
from airepair.report.table3 import table3

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed; pip install '.[test]'"
)
BROWSER, DRIVER = (
    next(filter(None, map(shutil.which, names)), None)
    for names in (("chromium", "google-chrome"), ("chromedriver",))
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="no browser; apt-get install chromium chromium-driver"
    ),
]
ROOT = Path(__file__).parents[2]
NET = len(LABELS) + [title for title, _ in HEADINGS].index("Net change")
ROWS = "[...document.querySelectorAll('#board tbody tr')].filter((r) => !r.hidden)"
CONTRAST = """
const luminance = (c) => [0, 1, 2].map((i) => c[i] / 255).map((v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const behind = (e) => {
  for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; }
  return numbers(getComputedStyle(document.documentElement).backgroundColor);
};
const found = {};
for (const e of document.querySelectorAll("body *")) {
  if (e.closest("script, style, title, desc") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const style = getComputedStyle(e), ink = numbers(e instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [luminance(ink), luminance(behind(e))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) found[e.tagName + "." + (e.getAttribute("class") || "")] = ratio;
}
return found;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the committed records."""
    cells = grid(read([ROOT / "reports" / name for name in ("cpu", "digits", "digits-faults")])[0])
    numbers = paper.read(paper.default_path())
    tables = [table1(cells.plain, numbers), paper.table(numbers), table2(cells.plain), table3(cells)]
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(leaderboard(cells.plain, [t for t in tables if t], cells), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window, which logs its console and its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for word in ("--headless=new", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


def opened(browser: Any, page: Path, state: str = "", *, width: int = 1400, scheme: str = "light") -> Any:
    """The browser with the page, afresh, at that width and in that scheme of colours."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get("about:blank")
    browser.get(page.as_uri() + state)
    return browser


def column(browser: Any, index: int) -> list[str]:
    """The texts of a column of the rows that are shown."""
    found: list[str] = browser.execute_script(f"return {ROWS}.map((r) => r.cells[{index}].textContent)")
    return found


def number(text: str) -> float | None:
    """The number that a cell begins with; None for a dash."""
    return None if text == "–" else float(text.split()[0].replace(",", "").rstrip("‡"))


def test_the_page_of_the_committed_records_is_at_most_a_megabyte(page: Path) -> None:
    """It is mailed and opened on phones."""
    assert page.stat().st_size <= 1_000_000


def test_it_asks_nobody_and_reports_no_error(browser: Any, page: Path) -> None:
    """The only request is for the file itself; the console stays empty."""
    browser.get_log("performance")
    opened(browser, page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert asked - {"about:blank"} == {page.as_uri()}
    assert browser.get_log("browser") == []


def test_a_heading_sorts_and_sorts_back(browser: Any, page: Path) -> None:
    """The largest number first, then the smallest; what has none stays last; the address keeps it."""
    opened(browser, page)
    for falling in (True, False):
        browser.execute_script(f"document.querySelectorAll('#board th button')[{NET}].click()")
        values = [number(t) for t in column(browser, NET)]
        known = [v for v in values if v is not None]
        assert known == sorted(known, reverse=falling)
        assert len(known) > 100
        assert values[: len(known)] == known
    state = browser.current_url.partition("#")[2]
    assert state == f"sort={NET}a"
    assert [number(t) for t in column(opened(browser, page, f"#{state}"), NET)] == values


def test_filters_narrow_the_rows_and_stand_in_the_address(browser: Any, page: Path) -> None:
    """A select, free text, a metric; an address opens the same view, and one button takes it all back."""
    opened(browser, page)
    whole = len(column(browser, 0))
    browser.execute_script(
        "const s = document.querySelector('select[data-column=\"3\"]'); s.value = 'missing'; "
        "s.dispatchEvent(new Event('change'));"
        "const q = document.getElementById('filter'); q.value = 'irepair'; "
        "q.dispatchEvent(new Event('input'));"
        f"const m = document.getElementById('metric'); m.value = '{NET}'; "
        f"m.dispatchEvent(new Event('change'));"
    )
    assert set(column(browser, 3)) == {"missing"}
    assert set(column(browser, 0)) == {"irepair"}
    heads = (
        "return [...document.querySelectorAll('#board thead th')].filter((h) => !h.hidden).map((h) "
        "=> h.textContent.trim())"
    )
    assert browser.execute_script(heads) == [*LABELS, "n", "Net change"]
    shown, state = column(browser, 1), browser.current_url.partition("#")[2]
    opened(browser, page, f"#{state}")
    assert (column(browser, 1), browser.execute_script(heads)) == (shown, [*LABELS, "n", "Net change"])
    browser.execute_script("document.getElementById('reset').click()")
    assert len(column(browser, 0)) == whole
    assert len(browser.execute_script(heads)) == len(LABELS) + len(HEADINGS)


def test_a_state_that_no_page_wrote_breaks_nothing(browser: Any, page: Path) -> None:
    """Unknown columns and values show everything."""
    opened(browser, page, "#sort=99d&c0=gone&hide=77.x&q=")
    assert len(column(browser, 0)) > 300
    assert browser.get_log("browser") == []


def test_a_method_leads_to_its_details(browser: Any, page: Path) -> None:
    """They lie folded in those of their subject, and both open."""
    opened(browser, page, "#digits-cnn-finetune")
    assert browser.execute_script(
        "const d = document.getElementById('digits-cnn-finetune'); return d.open && d.parentElement.open"
    )


def test_the_csv_has_the_rows_that_are_shown(browser: Any, page: Path) -> None:
    """One line a row, quoted, under the headings that are shown."""
    opened(browser, page, "#q=irepair")
    text = browser.execute_async_script(
        "const done = arguments[0]; URL.createObjectURL = (blob) => { blob.text().then(done); return '#'; };"
        "HTMLAnchorElement.prototype.click = () => {}; document.getElementById('csv').click();"
    )
    lines = text.splitlines()
    assert len(lines) == 1 + len(column(browser, 0)) > 1
    assert lines[0].startswith('"Method","Data set"')
    assert all(line.startswith('"irepair') for line in lines[1:])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser: Any, page: Path, scheme: str) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3), whatever is folded away included."""
    opened(browser, page, scheme=scheme)
    assert browser.execute_script(CONTRAST) == {}


def test_on_a_phone_nothing_but_tables_scrolls_sideways(browser: Any, page: Path) -> None:
    """At 390 px the page is as wide as the screen; in the table heading and method stay in view."""
    opened(browser, page, width=390)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    place = browser.execute_script(
        "const box = document.getElementById('board').parentElement; box.scrollTo(400, 2000); "
        "const b = box.getBoundingClientRect();"
        "const name = document.querySelectorAll('#board tbody th')[80].getBoundingClientRect();"
        "const head = document.querySelectorAll('#board thead th')[12].getBoundingClientRect();"
        "return [box.scrollLeft, box.scrollTop, name.left - b.left, head.top - b.top]"
    )
    assert place[:2] == [400, 2000]
    assert max(abs(v) for v in place[2:]) <= 2
