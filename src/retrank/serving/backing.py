"""Open what a service stands on, as its settings say: state store, event and decision logs, the key of its tokens."""

import os

from retrank.serving.decision_log import Decisions
from retrank.serving.events.intake import open_intake
from retrank.serving.events.settings import open_log
from retrank.serving.service import Backing
from retrank.serving.settings import Settings
from retrank.serving.stores.open_store import open_store
from retrank.serving.tokens import Signer, load_key

KEY_FILE = "token.key"


def open_backing(settings: Settings) -> Backing:
    """Open everything; a state store that is away is found out by the first request, and answered around.

    Raises:
        ConfigError: a setting names something that cannot be, or the folder cannot be made.
        LogUnavailable: a log cannot be opened for writing.
    """
    folder = settings.folder
    signer = Signer(load_key(folder / KEY_FILE, os.environ))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store, logs = open_store(settings.state_store()), settings.event_logs()
    decisions = Decisions(open_log(logs, "decisions") if settings.service.keep_decisions else None)
    return Backing(store, open_intake(logs, store), decisions, signer)
