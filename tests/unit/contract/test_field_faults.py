"""What a refused field is told: the value seen, unless it could give somebody away."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from retrank.contract.field_faults import fault_of


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    k: int = Field(default=1, ge=1, le=500)
    user_id: str = Field(default="u", max_length=8)
    mode: Literal["fast", "exact"] = "fast"
    items: list[str] = Field(default=[], max_length=2)
    share: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd; expected an even number")
        return value


def _told(**document: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        _Document.model_validate(document)
    [error] = caught.value.errors()
    return fault_of(error)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"k": 900}, "less than or equal to 500, got 900"),
        ({"k": True}, "valid integer, got true"),
        ({"k": None}, "valid integer, got null"),
        ({"k": 1.5}, "valid integer, got 1.5"),
        ({"k": "3"}, "valid integer, got the text '3'"),
        ({"k": "alice"}, "valid integer, got text of length 5"),
        ({"share": 1.0000001}, "less than or equal to 1, got 1.0000001"),
        ({"share": float("nan")}, "finite number, got nan"),
        ({"k": {"at": 3}}, "valid integer, got an object"),
        ({"items": ["a", "b", "c"]}, "after validation, not 3"),
        ({"mode": "slow"}, "'fast' or 'exact', got 'slow'"),
        ({"mode": "alice@example.com"}, "'fast' or 'exact', got text of length 17"),
        ({"mode": "4711234567"}, "'fast' or 'exact', got text of length 10"),
        ({"mode": 4711234567}, "'fast' or 'exact', got a number"),
        ({"user_id": "u" * 2_000}, "at most 8 characters, got text of length 2,000"),
        ({"user_id": 4711234567}, "valid string, got a number"),
        ({"items": [4711234567]}, "valid string, got a number"),
    ],
)
def test_a_refusal_shows_what_was_seen(document: dict[str, Any], told: str) -> None:
    assert _told(**document).endswith(told)


def test_what_says_it_already_is_left_as_it_is() -> None:
    assert _told(even=3) == "3 is odd; expected an even number"
    assert _told(colour="red") == "Extra inputs are not permitted"


@given(st.text(min_size=9))
def test_an_id_is_never_repeated(user_id: str) -> None:
    assert _told(user_id=user_id) == f"String should have at most 8 characters, got text of length {len(user_id):,}"


@given(st.integers() | st.floats())
def test_an_id_that_is_a_number_is_not_repeated_either(user_id: float) -> None:
    assert _told(user_id=user_id) == "Input should be a valid string, got a number"


@given(st.integers(min_value=501) | st.floats(min_value=501) | st.text(min_size=9).map(lambda word: word * 50))
def test_it_is_short(value: object) -> None:
    assert len(_told(k=value)) < 160
    assert len(_told(mode=value)) < 160
