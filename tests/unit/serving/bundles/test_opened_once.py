"""What a bundle holds is opened once, however many recommenders rehearse and answer from it."""

from pathlib import Path

import pytest

from retrank.contract.bundle import VerifiedBundle, locate
from retrank.serving import new_items
from retrank.serving.bundles.opening import begin, open_service_replica
from retrank.serving.new_items import NewItemEncoder
from retrank.serving.settings import parse_settings


def test_the_item_encoder_is_opened_once_for_rehearsal_and_answers(
    content_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, open_one = list[str](), new_items.open_item_encoder

    def noting(bundle: VerifiedBundle) -> NewItemEncoder | None:
        opened.append(bundle.bundle_id)
        return open_one(bundle)

    monkeypatch.setattr(new_items, "open_item_encoder", noting)
    folder = {"folder": tmp_path, "catalogue_refresh_s": 60.0}
    settings = parse_settings({"bundle": content_bundle, "service": folder})
    begin(settings)
    replica = open_service_replica(settings, "one")
    replica.close()
    assert opened == [locate(content_bundle).name]
    assert replica.holder.serving.active.quiet()._newcomers is replica.holder.serving.active._newcomers
