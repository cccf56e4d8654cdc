"""From a logit to a probability that can be trusted: a monotone curve, fitted offline and applied online."""

from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from retrank.contract.errors import FormatError, said_of

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Calibration(BaseModel):
    """A piecewise-linear map from logit to probability, constant beyond its outermost knots.

    Attributes:
        logits: K >= 2 strictly increasing finite knots.
        probabilities: the value at each knot, 0..1, never falling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    logits: tuple[Finite, ...] = Field(min_length=2)
    probabilities: tuple[Annotated[Finite, Field(ge=0, le=1)], ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check_knots(self) -> Self:
        if len(self.logits) != len(self.probabilities):
            raise ValueError(f"{len(self.logits)} logits and {len(self.probabilities)} probabilities, expected as many")
        for at, (left, right) in enumerate(pairwise(self.logits)):
            if right <= left:
                raise ValueError(f"logit {at + 1} is {right}, not above the one before it ({left})")
        for at, (left, right) in enumerate(pairwise(self.probabilities)):
            if right < left:
                raise ValueError(f"probability {at + 1} is {right}, below the one before it ({left})")
        return self

    @classmethod
    def make(cls, logits: NDArray[np.float64], probabilities: NDArray[np.float64]) -> "Calibration":
        """Build a curve from `[K]` knots.

        Raises:
            FormatError: the knots are not finite, not ordered, or not probabilities.
        """
        return cls.parse({"logits": logits.tolist(), "probabilities": probabilities.tolist()})

    @classmethod
    def parse(cls, document: str | bytes | dict[str, object]) -> "Calibration":
        """Read a curve from JSON, or from what JSON holds.

        Raises:
            FormatError: it is not a curve.
        """
        try:
            if isinstance(document, dict):
                return cls.model_validate({key: _frozen(value) for key, value in document.items()})
            return cls.model_validate_json(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "knots"
            raise FormatError(f"calibration: {where}: {said_of(first['msg'])}; fit it again") from error

    def to_json(self) -> str:
        """Return the curve as JSON; `parse` gives an equal one back, to the last bit."""
        return self.model_dump_json()

    def apply(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map `[...]` logits to `[...]` float64 probabilities; a higher logit never gets a lower one. NaN stays NaN."""
        return np.asarray(np.interp(logits, self.logits, self.probabilities), np.float64)


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
