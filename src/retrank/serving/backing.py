"""Open what a service stands on, as its settings say: state store, event and decision logs, the key of its tokens."""

import os
import time

from retrank.serving.decision_log import Decisions
from retrank.serving.events.intake import Outside, open_intake
from retrank.serving.events.settings import open_log
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.profiles import DEPENDENCY, GuardedProfiles
from retrank.serving.guard.pulse import Pulse
from retrank.serving.service import Backing
from retrank.serving.settings import Settings
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import StateStore
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.tokens import Signer, load_key

KEY_FILE = "token.key"


def open_backing(settings: Settings, telemetry: Telemetry | None = None) -> Backing:
    """Open everything; a state store that is away is found out by the first request, and answered around.

    Raises:
        ConfigError: a setting names something that cannot be, or the folder cannot be made.
        LogUnavailable: a log cannot be opened for writing.
    """
    said = telemetry or Telemetry()
    signer = Signer(load_key(settings.folder / KEY_FILE, os.environ))
    store, quick, logs = open_state(settings), open_quick_state(settings), settings.event_logs()
    decisions = Decisions(open_log(logs, "decisions") if settings.service.keep_decisions else None)
    breaker = Breaker(settings.guard.breaker, time.monotonic, on_change=lambda state: said.circuit(DEPENDENCY, state))
    pulse = Pulse(time.monotonic).start()
    profiles = GuardedProfiles(store, breaker, time.monotonic, said, quick=quick, stood_still_s=pulse.stood_still_s)
    outside = Outside(signer.has_signed, said.event_log_lag)
    return Backing(store, open_intake(logs, store, outside), decisions, signer, profiles, quick, telemetry)


def open_state(settings: Settings) -> StateStore:
    """Open the state store that replicas, launcher and operators share; its folder is made when it is missing."""
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open_store(settings.state_store())


def open_quick_state(settings: Settings) -> StateStore:
    """Open the same store for those who hold up a slate: they give up sooner."""
    state = settings.state_store()
    return open_store(state.model_copy(update={"timeout_s": min(state.timeout_s, state.answer_timeout_s)}))
