"""How a client behaves; one frozen object, shared by the sync and the async client."""

import re

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_KEY = re.compile(r"[!-~]{8,512}")


class ClientSettings(BaseModel):
    """Everything that can be set about calls. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr | None = Field(default=None, description="sent as `Authorization: Bearer ...`; never shown")
    deadline_s: float = Field(default=1.0, gt=0, le=600, description="for a whole call, all attempts together")
    attempt_s: float = Field(default=1.0, gt=0, le=600, description="longest a single attempt may take")
    max_attempts: int = Field(default=3, ge=1, le=10, description="of one call, the first included")
    backoff_s: float = Field(default=0.02, ge=0, le=10, description="mean wait before the second attempt; doubles")
    retry_share: float = Field(default=0.1, ge=0, le=1, description="retries per call in the long run")
    retry_reserve: float = Field(default=10, ge=0, le=1_000, description="retries that a quiet client has saved up")
    breaker_failures: int = Field(default=20, ge=1, le=1_000, description="failures in a row that open the breaker")
    breaker_open_s: float = Field(default=1.0, gt=0, le=600, description="until one call may try again")
    max_connections: int = Field(default=32, ge=1, le=1_000, description="kept alive between calls")
    fallback_answers: int = Field(default=256, ge=0, le=100_000, description="good answers remembered for bad times")

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        """Refuse what no header can carry here, where nothing quotes it; HTTP libraries do."""
        if key is not None and not _KEY.fullmatch(key.get_secret_value()):
            raise ValueError("expected 8 to 512 visible ASCII characters; was more than the key read from its file?")
        return key
