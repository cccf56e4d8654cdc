"""What a request tells of its user counts before what was sealed, whether the model learned that value or not."""

from pathlib import Path

import numpy as np
import pytest

from retrank.contract.api import RecommendRequest
from retrank.contract.bundle import verify
from retrank.contract.context import CLOCK, ContextField, ContextRows, ContextSpec
from retrank.serving.draft import Draft
from retrank.serving.runtime import Runtime, open_runtime
from retrank.serving.stages.hydrate import Hydrate

FIELDS = ContextRows(
    ContextSpec(
        fields=(
            ContextField(name="tier", told_by="user", values=("gold", "silver")),
            ContextField(name="country", values=("de", "br")),
            ContextField(name="weekday", told_by="clock", values=CLOCK["weekday"]),
        )
    )
)
THURSDAY = 4
"""Row of the day on which the clock of these tests begins."""


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> Runtime:
    return open_runtime(verify(tiny_bundle))


@pytest.mark.parametrize(
    ("user", "told", "rows"),
    [
        ("u1", {}, [1, 0]),
        ("u1", {"tier": "silver"}, [2, 0]),
        ("u1", {"tier": "platinum"}, [0, 0]),
        ("u1", {"tier": ""}, [0, 0]),
        ("u1", {"country": "br"}, [1, 2]),
        ("nobody", {}, [0, 0]),
        ("nobody", {"tier": "gold"}, [1, 0]),
        (None, {"tier": "platinum", "country": "de"}, [0, 1]),
    ],
)
def test_the_sealed_value_stands_in_for_what_is_not_told_alone(
    runtime: Runtime, user: str | None, told: dict[str, str], rows: list[int]
) -> None:
    sealed = np.zeros((len(runtime.users) + 1, 3), dtype=np.int32)
    sealed[1:, 0] = 1
    hydrate = Hydrate(runtime.users, runtime.items, runtime.histories, 0, lambda: 0.0, runtime.actions, FIELDS, sealed)
    request = RecommendRequest.model_validate({"user_id": user, "context": told})
    assert hydrate.run(Draft(request)).context.tolist() == [*rows, THURSDAY]
