"""What `code` of a problem document can be, for programs; with `/problems/` in front it is the `type` (RFC 9457).

serving/README.md says when each is answered, and a test compares the two.
"""

from typing import Literal

ProblemCode = Literal[
    "malformed_json",
    "invalid_header",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "conflict",
    "body_too_large",
    "unsupported_media_type",
    "invalid_field",
    "all_rejected",
    "batch_beyond_quota",
    "overloaded",
    "quota_exceeded",
    "internal",
    "not_implemented",
    "replica_lost",
    "starting",
    "draining",
    "store_unavailable",
    "log_unavailable",
    "not_offered",
    "replica_late",
    "deadline",
    "store_full",
]
