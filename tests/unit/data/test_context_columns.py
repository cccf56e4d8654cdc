"""Which values of a column become rows, and which row stands beside which event."""

from pathlib import Path

import numpy as np
import pytest

from retrank.contract.encode import CONTEXT_ROWS, ITEM_ROWS
from retrank.contract.errors import ConfigError
from retrank.data.batches import Batches
from retrank.data.context_columns import ContextSettings, in_context
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import UsersFile
from retrank.data.splits import GlobalTemporal, LeaveLastOut
from retrank.data.store import EventStore

DAY = 86_400
EVENTS = [  # user, item, day, place, load
    ("u1", "i1", 0, "home", 1),
    ("u1", "i2", 1, "work", 2),
    ("u1", "i3", 2, "", 3),
    ("u1", "i4", 3, "home", 4),
    ("u2", "i2", 0, "work", 1),
    ("u2", "i1", 2, "home", 2),
    ("u2", "i4", 9, "train", 3),
]
HOME, WORK = 1, 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    folder = tmp_path_factory.mktemp("context")
    lines = [f"{user},{item},{day * DAY},{place},{load}" for user, item, day, place, load in EVENTS]
    (folder / "events.csv").write_text("user,item,time,place,load\n" + "\n".join(lines) + "\n")
    columns = Columns("user", "item", time="time", context={"place": "place", "load": "load"}, numbers=["load"])
    (folder / "users.csv").write_text("who,level\nu2,gold\nu9,silver\nu1,\nu2,silver\n,gold\n")
    users = UsersFile(str(folder / "users.csv"), "who", {"tier": "level"})
    return ingest(
        Delimited(str(folder / "events.csv"), columns, "placed"), folder / "store", users=users, max_bad_share=1
    )


def test_rare_and_missing_values_are_unknown_and_the_commonest_comes_first(store: EventStore) -> None:
    told = in_context(store, ContextSettings(["place"], min_events=2))
    assert told.context_spec is not None
    assert told.context_spec.fields[0].values == ("home", "work")
    assert told.sequences.contexts is not None
    assert told.sequences.contexts[:, 0].tolist() == [HOME, WORK, 0, HOME, WORK, HOME, 0]


def test_a_vocabulary_keeps_no_more_than_it_may(store: EventStore) -> None:
    assert ContextSettings(["place"], min_events=1, max_values=1).fit(store).sizes == {"place": 1}
    assert ContextSettings(["place"], min_events=1).fit(store).sizes == {"place": 3}


def test_the_clock_needs_no_column(store: EventStore) -> None:
    told = in_context(store, ContextSettings(["weekday", "hour"], time_zone="America/Sao_Paulo"))
    assert told.sequences.contexts is not None
    assert told.sequences.contexts[:2].tolist() == [[3, 22], [4, 22]]  # 1970 began on a Wednesday there


def test_without_fields_a_store_stays_as_it_is(store: EventStore) -> None:
    assert in_context(store, ContextSettings()) is store


def test_a_batch_tells_every_place_the_context_of_the_event_that_follows(store: EventStore) -> None:
    histories = in_context(store, ContextSettings(["place"], min_events=2)).sequences
    batches = Batches(histories, batch_size=2, max_length=9, seed=0, inputs=(ITEM_ROWS, CONTEXT_ROWS))
    (batch,) = list(batches)
    order = np.argsort(-batch.item_rows.numpy()[:, 0])  # the longer history first
    assert batch.inputs[CONTEXT_ROWS].numpy()[order, :, 0].tolist() == [[WORK, 0, HOME], [0, HOME, 0]]


@pytest.mark.parametrize("split", [LeaveLastOut(), GlobalTemporal(0.3, 0.2)])
def test_a_case_is_asked_in_the_context_of_its_first_target(
    store: EventStore, split: LeaveLastOut | GlobalTemporal
) -> None:
    histories = in_context(store, ContextSettings(["place", "weekday"], min_events=1)).sequences
    for cases in (split(histories).validation, split(histories).test):
        assert len(cases)
        assert cases.inputs.asked_in is not None
        for place in range(len(cases)):
            user, row = int(cases.users[place]), int(cases.targets.of(place)[0])
            at = int(histories.offsets[user]) + histories.of(user).tolist().index(row)
            assert histories.contexts is not None
            assert cases.inputs.asked_in[place].tolist() == histories.contexts[at].tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            ["plaice"],
            r"the context columns \['load', 'place'\] and the user attributes \['tier'\], the clock tells hour",
        ),
        (["load"], r"names 'load', which holds numbers; leave it out of data\.columns\.numbers"),
        (["place", "place"], "expected at most 16 different names"),
        ("place", "context.fields is 'place'; expected a list of names of 1 to 64 letters"),
        (["a" * 65], "expected a list of names of 1 to 64 letters"),
        ([""], "expected a list of names"),
    ],
)
def test_fields_that_cannot_be_read_are_refused(store: EventStore, fields: list[str] | str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        in_context(store, ContextSettings(fields))


def test_a_field_of_which_no_value_is_left_is_refused(store: EventStore) -> None:
    for name, told, values in (("place", 6, 3), ("tier", 3, 1)):
        message = (
            f"{name!r}, which {told} of 7 events tell, and none of its {values} values has 4 of them; leave it out"
        )
        with pytest.raises(ConfigError, match=message):
            in_context(store, ContextSettings([name], min_events=4))


def test_settings_out_of_range_are_refused() -> None:
    for min_events, max_values in ((0, 1), (1, 0), (1, 30_001)):
        with pytest.raises(ConfigError, match=r"context\.min_events"):
            ContextSettings(min_events=min_events, max_values=max_values)


def test_the_clock_needs_times(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item\nu,i\nu,j\n")
    timeless = ingest(Delimited(str(tmp_path / "events.csv"), Columns("user", "item"), "timeless"), tmp_path / "store")
    with pytest.raises(ConfigError, match="which the clock tells, and the events have no times"):
        in_context(timeless, ContextSettings(["hour"]))


def test_an_attribute_of_a_user_stands_beside_all_of_the_events(store: EventStore) -> None:
    """Of somebody named twice the first row counts; u9 has no event, u1 no level."""
    assert store.user_table.to_pydict() == {"user_id": ["u1", "u2"], "tier": [None, "gold"]}
    told = in_context(store, ContextSettings(["tier"], min_events=1))
    assert told.context_spec is not None
    assert told.context_spec.fields[0].told_by == "user"
    assert told.context_spec.sizes == {"tier": 1}
    assert told.sequences.contexts is not None
    assert told.sequences.contexts[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert store.facts.report["users"]["filtered"] == {
        "missing user_id": 1,
        "user_id seen before, its first row counts": 1,
    }


def test_other_attributes_of_users_make_another_store_and_the_same_do_not(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item\nu,i\nu,j\n")
    reader, file = Delimited(str(tmp_path / "events.csv"), Columns("user", "item"), "shop"), tmp_path / "users.csv"

    def hash_with(text: str | None) -> str:
        if text is None:
            return ingest(reader, tmp_path / "store").facts.data_hash
        file.write_text(text)
        users = UsersFile(str(file), "id", {"tier": "tier"})
        return ingest(reader, tmp_path / "store", users=users).facts.data_hash

    without = hash_with(None)
    hashes = [hash_with("id,tier\nu,gold\n"), hash_with("id,tier\nu,tin\n"), hash_with("id,tier\nu,gold\n")]
    assert hashes[0] == hashes[2]
    assert len({without, *hashes}) == 3
    assert hash_with(None) == without
