"""How a history becomes model input, as sealed in `features.json`.

A `FeatureSpec` that parses is one that this version implements (every free choice is a `Literal`), so reading one and
comparing its hash with the manifest is all that serving needs to refuse a foreign encoding.
"""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrank.contract.bundle import FEATURES, VerifiedBundle
from retrank.contract.context import ContextSpec
from retrank.contract.encode import InputName, ModelInputs, encode
from retrank.contract.errors import FormatError, said_of
from retrank.contract.sequences import Sequences

OUTPUT_NAME = "query"
ITEM_COLUMN = "item_id"
USER_COLUMN = "user_id"


class FeatureSpec(BaseModel):
    """The history encoding a query encoder was trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    encoding: Literal["inputs/1"] = "inputs/1"
    max_length: int = Field(ge=1)
    similarity: Literal["dot", "cosine"]
    keeps: Literal["newest"] = "newest"
    padding_side: Literal["left"] = "left"
    padding_row: Literal[0] = 0
    inputs: tuple[InputName, ...] = ("item_rows",)
    actions: tuple[str, ...] = ()
    """Names of the action rows 1..A, in `history_actions.npy` too; empty when the data has no actions."""
    context: ContextSpec | None = None
    """The fields of the input `context`; None where the model does not read it, as in older bundles."""
    output_name: Literal["query"] = "query"
    item_column: Literal["item_id"] = "item_id"
    user_column: Literal["user_id"] = "user_id"

    def canonical(self) -> bytes:
        """Return the spec as canonical JSON: sorted keys, no blanks, UTF-8; without a context as older versions did."""
        left_out = {"context"} if self.context is None else None
        return json.dumps(self.model_dump(exclude=left_out), sort_keys=True, separators=(",", ":")).encode()

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON as lower-case hex."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def encode(self, histories: Sequences) -> ModelInputs:
        """Encode B histories as the `[B, L]` int64 inputs of the model, L <= max_length."""
        return encode(histories, self.inputs, self.max_length)


def read_features(bundle: VerifiedBundle) -> FeatureSpec:
    """Read the history encoding of a verified bundle.

    Raises:
        FormatError: this version does not implement the encoding, or it is not the one named in the manifest.
    """
    path, facts = bundle.path(FEATURES), bundle.manifest.encoder
    try:
        spec = FeatureSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        said = said_of(first["msg"])
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(
            f"{path}: field {where!r}: {said}; this version does not implement that encoding, export again"
        ) from error
    if spec.hash != facts.feature_spec_hash:
        raise FormatError(
            f"{path}: feature-spec hash {spec.hash}, the manifest names {facts.feature_spec_hash}; export again"
        )
    if (spec.max_length, spec.similarity) != (facts.max_length, facts.similarity):
        raise FormatError(
            f"{path}: max_length {spec.max_length} and similarity {spec.similarity}, the manifest says "
            f"{facts.max_length} and {facts.similarity}; export again"
        )
    return spec
