"""The report in a real browser: it opens without an error, sorts, searches, follows the sentence, and stays here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import HOSTILE, page

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium and chromedriver here (Debian: chromium, chromium-driver)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    """The page, from a file."""
    path = tmp_path / "report.html"
    path.write_text(page(("der hund schläft", "a b c d e f g", HOSTILE)), encoding="utf-8")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    return browser


def find(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


def lines(browser: Any) -> list[str]:
    return [row.get_attribute("data-line") for row in find(browser, "#sentences tbody tr")]


def test_it_opens_without_an_error_and_asks_the_network_for_nothing(opened: Any) -> None:
    assert opened.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len(find(opened, "#charts figure svg")) == 4
    assert len(find(opened, "#curve figure svg")) == 2
    assert len(find(opened, "#scores tr")) == 3


def test_sentences_are_sorted_by_each_column(opened: Any) -> None:
    assert lines(opened) == ["1", "2", "3"]
    find(opened, "#sentences button[data-key=line]")[0].click()
    assert lines(opened) == ["3", "2", "1"]
    find(opened, "#sentences button[data-key=words]")[0].click()
    assert lines(opened) == ["3", "1", "2"]
    assert find(opened, "#sentences th[aria-sort=ascending]")[0].text.startswith("Words")


def test_a_search_finds_sentences(opened: Any) -> None:
    box = find(opened, "#search")[0]
    box.send_keys("SLEEPS")  # stands in a source
    assert lines(opened) == ["1"]
    assert find(opened, "#shown")[0].text == "1 of 3 sentences"
    box.clear()
    box.send_keys("nowhere")
    assert lines(opened) == []


def test_the_detail_and_its_attention_follow_the_sentence(opened: Any) -> None:
    find(opened, "#sentences tbody tr[data-line='2']")[0].click()
    detail = find(opened, "#detail")[0]
    assert detail.find_element("css selector", "h3").text == "Line 2"
    assert [item.text for item in find(opened, "#detail ins")] == ["g"]
    assert [item.text for item in find(opened, "#detail del")] == ["x"]
    squares = find(opened, "#detail .map rect")
    assert [square.get_attribute("data-weight") for square in squares] == ["1.000", "0.000", "0.000", "1.000"] + [
        "0.000"
    ] * 2
    opened.execute_script("arguments[0].scrollIntoView()", squares[0])
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(opened).move_to_element(squares[0]).perform()
    assert find(opened, "#weight")[0].text == "b looks at a: 1.00"


def test_a_hostile_hypothesis_stays_text(opened: Any) -> None:
    find(opened, "#sentences tbody tr[data-line='3']")[0].click()
    assert opened.title == "s2s evaluation"
    assert find(opened, "img") == []
    shown = find(opened, "#detail dd")[2].text
    assert shown.split() == HOSTILE.split()
    assert opened.get_log("browser") == []


@pytest.mark.parametrize("width", [1400, 420])
def test_no_part_is_wider_than_the_window(opened: Any, width: int) -> None:
    opened.set_window_size(width, 900)
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    opened.set_window_size(1400, 1000)
