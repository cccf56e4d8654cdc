"""What is kept fresh: requests read memory, a store that is away is left to the poll, idle keys are let go."""

from retrank.serving.kept_fresh import IDLE_S, KEPT_S, KeptFresh
from retrank.serving.stores.protocol import StoreUnavailable


class Source:
    """Says how often it was asked; away when told to be."""

    def __init__(self) -> None:
        self.now, self.asked, self.away = 0.0, 0, False

    def read(self, key: str, before: int) -> int:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        return before + 1

    def kept(self, max_keys: int = 2) -> KeptFresh[str, int]:
        return KeptFresh(self.read, 0, lambda: self.now, every_s=0.5, max_keys=max_keys)


def test_a_request_asks_the_store_once_and_memory_from_then_on() -> None:
    source = Source()
    kept = source.kept()
    assert [kept.look("a") for _ in range(3)] == [(1, True)] * 3
    kept.poll()
    assert kept.look("a") == (2, True)
    assert source.asked == 2


def test_while_the_store_is_away_only_the_poll_asks_it_and_knowledge_grows_stale() -> None:
    source = Source()
    kept = source.kept()
    kept.look("a")
    source.away = True
    kept.poll()
    assert kept.look("a") == (1, True)  # still young
    source.now += 2.5
    asked = source.asked
    assert kept.look("a") == (1, False)
    assert kept.look("b") == (0, False)
    assert source.asked == asked
    source.away = False
    kept.poll()
    assert kept.look("a") == (2, True)
    assert kept.look("b") == (1, True)


def test_what_nobody_asks_about_is_not_polled_and_is_read_again_when_somebody_does() -> None:
    source = Source()
    kept = source.kept()
    kept.look("a")
    source.now += IDLE_S + 1
    kept.poll()
    assert source.asked == 1
    assert kept.look("a") == (2, True)


def test_the_number_of_keys_is_bounded() -> None:
    source = Source()
    kept = source.kept(max_keys=2)
    for key in ("a", "b", "c"):
        kept.look(key)
    asked = source.asked
    kept.poll()
    assert source.asked == asked + 2


def test_what_is_asked_about_while_the_store_is_away_is_bounded_and_the_latest_is_polled() -> None:
    source = Source()
    kept = source.kept(max_keys=2)
    source.away = True
    for number in range(1_000):
        kept.look(f"key {number}")
    source.away = False
    asked = source.asked
    kept.poll()
    assert source.asked == asked + 2
    assert kept.look("key 999") == (1, True)


def test_what_was_idle_for_long_leaves_memory_unless_the_store_is_away() -> None:
    source = Source()
    kept = source.kept()
    kept.look("idle")
    kept.look("busy")
    source.now += KEPT_S + 1
    source.away = True
    kept.look("busy")
    kept.poll()
    assert len(kept.values()) == 2
    source.away = False
    kept.look("busy")
    kept.poll()
    assert kept.values() == [2], "only the busy one, read again"


def test_of_too_many_the_one_that_was_read_longest_ago_goes() -> None:
    source = Source()
    kept = source.kept()
    for key in ("a", "b"):
        kept.look(key)
        source.now += 1
    kept.refresh("a")
    kept.look("c")
    asked = source.asked
    assert (kept.look("a"), source.asked) == ((2, True), asked)
    kept.look("b")
    assert source.asked == asked + 1
