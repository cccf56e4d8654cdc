"""The page in a real browser: pick a user, click an item, look at the slate.

Set RETRANK_SCREENSHOTS to a folder to keep the photographs.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from living_service import living_service
from serving_chromium import BINARY, Tab, chromium

from retrank.serving.ingress import free_port
from retrank.serving.recommender import Recommender
from retrank.serving.web.routes import create_app

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine")]
CARDS = "document.querySelectorAll('#slate .card')"


@pytest.fixture(scope="module")
def url(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        server = uvicorn.Server(uvicorn.Config(create_app(service), port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as opened:
        opened.size(1360, 900)
        yield opened
        assert opened.complaints == []


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("RETRANK_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_person_picks_a_user_clicks_an_item_and_sees_the_slate_change(tab: Tab, url: str, shots: Path) -> None:
    tab.open(f"{url}/#user=u1")
    tab.wait_for(f"{CARDS}.length === 12")
    assert tab.evaluate("document.getElementById('slate-title').textContent") == "For user u1"
    assert tab.evaluate("document.querySelectorAll('#history li').length") == 15
    assert tab.evaluate("document.querySelectorAll('#timing-bar span').length") == 7
    assert tab.evaluate(f"[...{CARDS}].every(card => card.querySelector('.why li') && card.querySelector('.price'))")
    tab.photograph(shots / "page-user.png")

    first = tab.evaluate(f"{CARDS}[0].dataset.item")
    tab.click("#slate .card [data-act=click]")
    tab.wait_for("document.querySelectorAll('#session li').length === 1")
    tab.wait_for(f"{CARDS}[0].dataset.item !== {first!r}")  # what was clicked is seen and leaves the slate
    assert not tab.evaluate(f"[...{CARDS}].some(card => card.dataset.item === {first!r})")
    tab.photograph(shots / "page-clicked.png")
    assert (shots / "page-clicked.png").stat().st_size > 20_000


def test_a_visitor_without_a_name_searches_and_clicks(tab: Tab, url: str, shots: Path) -> None:
    tab.size(420, 900, dark=True)
    tab.open(f"{url}/#user=")
    tab.wait_for("document.getElementById('slate-title').textContent === 'For anybody'")
    tab.click("#search")
    tab.type("number 42")
    tab.wait_for("document.querySelectorAll('#found button').length === 1")
    tab.click("#found button")
    tab.wait_for("document.getElementById('slate-title').textContent === 'For this visitor'")
    assert tab.evaluate("document.querySelector('#slate .why').textContent.includes('Thing number 42')")
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tab.photograph(shots / "page-narrow.png")


def test_an_unknown_user_is_told_so_in_words(tab: Tab, url: str) -> None:
    tab.open(f"{url}/#user=" + "%3Cb%3Estranger%3C%2Fb%3E")
    tab.wait_for("document.getElementById('status').classList.contains('bad')")
    assert "this user is not in the bundle" in tab.evaluate("document.getElementById('status').textContent")
    assert tab.evaluate("document.getElementById('slate-title').innerHTML") == "For user &lt;b&gt;stranger&lt;/b&gt;"


def _post_click(tab: Tab, user: str, item: str) -> None:
    event = {"event_id": item, "type": "click", "item_id": item, "user_id": user}
    options = {
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps({"events": [event]}),
    }
    assert tab.evaluate(f"fetch('/v1/events', {json.dumps(options)}).then(answer => answer.status)") == 202


def test_what_was_done_elsewhere_a_moment_ago_is_history_and_named_by_its_title(tab: Tab, url: str) -> None:
    tab.open(f"{url}/#user=u5")
    tab.wait_for(f"{CARDS}.length === 12")
    _post_click(tab, "u5", "i42")
    tab.evaluate("(k => { k.value = '5'; k.dispatchEvent(new Event('change')); })(document.getElementById('k'))")
    tab.wait_for(f"{CARDS}.length === 5")  # the page has not met the item: it asks for its title
    why = "[...document.querySelectorAll('#slate .why')].map(node => node.textContent).join(' ')"
    tab.wait_for(f"{why}.includes('Thing number 42')")
    assert not tab.evaluate(f"/ i42/.test({why})")
    tab.click("#user-form button")
    tab.wait_for("document.querySelector('#history li').title === 'Thing number 42'")
    assert "1 of them since the bundle was made" in tab.evaluate("document.getElementById('history-count').textContent")
