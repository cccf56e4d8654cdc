"""Settings of the gRPC twin of the API."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from retrank.contract.api import MAX_BODY_BYTES


class RpcSettings(BaseModel):
    """Where and whether the service answers over gRPC; every replica listens on the same port."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=False, description="answer over gRPC too; off costs nothing")
    host: str = Field(default="127.0.0.1", description="interface to listen on; 0.0.0.0 opens it to the network")
    port: int = Field(default=8002, ge=1, le=65_535, description="of all replicas of a host: SO_REUSEPORT")
    max_message_bytes: int = Field(default=MAX_BODY_BYTES, ge=1_024, le=1 << 26, description="largest request")
    max_concurrent: int = Field(
        default=512, ge=1, le=10_000, description="calls that a replica holds; those in lanes and queues, and probes"
    )
    max_connection_age_s: float = Field(
        default=60.0, ge=1, le=86_400, description="then a connection is renewed, and may reach another replica"
    )
    finish_s: float = Field(default=8.0, gt=0, le=20, description="seconds that calls in flight get on shutdown")

    @field_validator("host")
    @classmethod
    def _as_address(cls, host: str) -> str:
        """Treat the name of this machine's loopback like its address."""
        return "127.0.0.1" if host == "localhost" else host
