"""What a service is told comes back as training data, by the documented commands, and the next bundle knows it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_worlds import DAY_S, NOON

from retrank.cli import main
from retrank.contract.api import RecommendRequest, SlateResponse
from retrank.contract.bundle import MODEL_CARD, verify
from retrank.contract.events import Event
from retrank.data.store import EventStore
from retrank.serving.events.records import encode_event, event_bytes
from retrank.serving.events.segment_log import SegmentLog
from retrank.serving.recommender import Recommender
from retrank.training.ranking.shown import read_shown

ROOT = Path(__file__).parents[2]
NUM_USERS, NUM_VISITORS, NUM_ITEMS, LENGTH = 40, 20, 30, 6
ODD_ID = "s:visit0"  # a user whose id is spelled like the key of a visitor
SMALL = (
    "experiment=smoke", "model.max_length=8", "model.width=8", "trainer.max_epochs=1", "trainer.progress=false",
    "trainer.threads=1", "split=leave_last_out",
)  # fmt: skip


def _walk(who: dict[str, str], first: int) -> Iterator[dict[str, Any]]:
    """Yield clicks along the shelf, an hour apart."""
    for step in range(LENGTH):
        yield {"type": "click", "item_id": f"i{(first + step) % NUM_ITEMS}", "at": step} | who


def _events() -> Iterator[dict[str, Any]]:
    """Users, visits without one, and what users were shown behind what they clicked on; one item was dismissed."""
    for user in range(NUM_USERS):
        who = {"user_id": str(17_850 + user)}
        yield from _walk(who, user)
        shown = {"type": "impression", "item_id": f"i{(user + LENGTH) % NUM_ITEMS}", "at": 9}
        yield shown | who | {"context": {"position": 3}}
        yield {"type": "dismiss", "item_id": f"i{(user + LENGTH + 1) % NUM_ITEMS}", "at": 10} | who
    for visit in range(NUM_VISITORS):
        yield from _walk({"session_id": f"visit{visit}"}, 2 * visit)
    yield from _walk({"user_id": ODD_ID}, 15)


def _publish(directory: Path) -> None:
    log = SegmentLog(directory / "events")
    start_us = int((NOON - DAY_S) * 1e6)
    for number, raw in enumerate(_events()):
        arrived_us = start_us + raw.pop("at") * 3_600_000_000 + number
        encoded = event_bytes(Event.model_validate({"event_id": f"e{number}"} | raw))
        log.append([encode_event(encoded, n=number, tenant="default", arrived_us=arrived_us)]).result(20)
    log.close()


def _documented(page: str, beginning: str) -> list[str]:
    """Return the words of a command of a page of the documentation."""
    text = (ROOT / "docs" / page).read_text().replace("\\\n", " ")
    [line] = re.findall(rf"^{re.escape(beginning)}.*$", text, re.MULTILINE)
    return shlex.split(line)[1:]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of events, and everything that the documentation makes of it, up to a bundle."""
    folder = tmp_path_factory.mktemp("loop")
    _publish(folder / "events")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(_documented("events.md", "retrank events compact directory")) == 0
        assert main(_documented("events.md", "retrank ingest data=live_events")) == 0
        assert main(_documented("ranking.md", "retrank ingest data=live_impressions")) == 0
        assert main(["train", *SMALL, "store=stores/live", "name=live", "run_dir=run"]) == 0
        gates = ["sealing.gates.parity_rows=50", "sealing.gates.not_worse_than=[]"]
        assert main(["export", "run=run", "out=bundles", *gates]) == 0
    return folder


@pytest.fixture(scope="module")
def store(loop: Path) -> EventStore:
    return EventStore.open(loop / "stores" / "live")


@pytest.fixture(scope="module")
def recommender(loop: Path) -> Recommender:
    return Recommender.open(loop / "bundles")


def _ask(recommender: Recommender, user_id: str, **asked: Any) -> SlateResponse:
    return recommender.recommend(RecommendRequest(user_id=user_id, k=NUM_ITEMS, **asked))


def _items(answer: SlateResponse) -> set[str]:
    return {item.item_id for item in answer.items}


def test_who_clicked_is_known_by_the_id_that_requests_name(recommender: Recommender) -> None:
    answer = _ask(recommender, "17850")
    assert "unknown_user" not in answer.degraded.reasons
    assert _items(answer) == {f"i{item}" for item in range(LENGTH, NUM_ITEMS)}, "all but what was clicked on"
    assert _items(_ask(recommender, "17850", exclude_seen=False)) == {f"i{item}" for item in range(NUM_ITEMS)}


def test_what_was_only_shown_or_dismissed_is_no_history(store: EventStore, recommender: Recommender) -> None:
    assert store.facts.actions == ["click"]
    left_out = {"action impression": NUM_USERS, "action dismiss": NUM_USERS}
    assert store.facts.report["filtered"] == left_out
    row = store.users.row("17851")
    assert store.items.ids_of(store.sequences.of(row - 1)) == [f"i{item}" for item in range(1, 1 + LENGTH)]
    shown = f"i{1 + LENGTH}"
    assert shown in _items(_ask(recommender, "17851"))


def test_visits_without_a_user_are_learned_from_and_not_sealed(
    loop: Path, store: EventStore, recommender: Recommender
) -> None:
    assert (store.num_users, store.num_named) == (NUM_USERS + 1 + NUM_VISITORS, NUM_USERS + 1)
    assert store.facts.num_events == (NUM_USERS + 1 + NUM_VISITORS) * LENGTH
    assert store.visitors.row("s:visit1") > 0
    manifest = verify(loop / "bundles").manifest
    assert (manifest.data.num_users, manifest.data.num_events) == (NUM_USERS + 1, store.facts.num_events)
    sealed = recommender.runtime.histories
    assert (len(sealed), len(sealed.item_rows)) == (NUM_USERS + 1, (NUM_USERS + 1) * LENGTH)
    card = recommender.runtime.bundle.path(MODEL_CARD).read_text()
    assert f"by {NUM_USERS + 1} users and {NUM_VISITORS} visitors without an id on {NUM_ITEMS} items" in card
    assert _ask(recommender, "s:visit1").degraded.reasons == ["unknown_user"]


def test_a_user_whose_id_looks_like_a_visit_is_somebody_else(store: EventStore, recommender: Recommender) -> None:
    unseen = set(store.items.ids) - {f"i{15 + step}" for step in range(LENGTH)}
    assert _items(_ask(recommender, ODD_ID)) == unseen
    visit = store.num_named + store.visitors.row(ODD_ID)
    assert store.items.ids_of(store.sequences.of(visit - 1)) == [f"i{item}" for item in range(LENGTH)]


def test_impressions_are_the_store_of_places_that_a_ranker_reads(loop: Path, store: EventStore) -> None:
    shown = read_shown(loop / "stores" / "shown", store)
    assert len(shown.places) == NUM_USERS
    assert set(shown.places.tolist()) == {3}
    assert store.items.id(int(shown.item_rows[0])) == f"i{LENGTH}"
