"""Call a retrank service from Python, sync or async.

    from retrank.client import Client, RecommendRequest

    with Client("http://127.0.0.1:8000") as client:
        slate = client.recommend(RecommendRequest(user_id="17850", k=10), deadline_s=0.2)

A call keeps to its deadline, whatever the service does: it is tried again while time and the retry budget allow, and
`recommend`, `similar`, `popular` and `rank` then answer from what is known here, marked degraded, instead of failing.
"""

from retrank.client.answers import Batch, BatchEntry, RankedEntry, Ranking, Slate, SlateEntry
from retrank.client.async_client import AsyncClient
from retrank.client.buffer import EventBuffer
from retrank.client.errors import CallFailed, CallRefused, ClientClosed, ClientError
from retrank.client.settings import ClientSettings
from retrank.client.sync_client import Client
from retrank.contract.api import RecommendRequest, Session, SimilarRequest
from retrank.contract.catalogue_changes import BulkItem
from retrank.contract.events import Event
from retrank.contract.ranking import RankRequest

__all__ = [
    "AsyncClient",
    "Batch",
    "BatchEntry",
    "BulkItem",
    "CallFailed",
    "CallRefused",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientSettings",
    "Event",
    "EventBuffer",
    "RankRequest",
    "RankedEntry",
    "Ranking",
    "RecommendRequest",
    "Session",
    "SimilarRequest",
    "Slate",
    "SlateEntry",
]
