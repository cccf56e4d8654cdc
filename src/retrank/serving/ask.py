"""`retrank recommend`: one answer in this process, printed as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retrank.contract.api import Reason, RecommendRequest, Session, SlateItem, SlateResponse
from retrank.contract.context import ContextSpec
from retrank.contract.errors import RequestError, said_of
from retrank.serving.recommender import Recommender

_TITLE_WIDTH = 44


def run(config: dict[str, Any]) -> SlateResponse:
    """Open the bundle, answer one request and print the slate.

    Raises:
        BundleError: the bundle cannot be opened.
        RequestError: the request is not valid.
    """
    request = _request(config)
    recommender = Recommender.open(Path(config["bundle"]))
    for line in unread(recommender.runtime.fields.spec, request.context):
        print(line)
    response = recommender.recommend(request)
    print(slate_table(response, titles=recommender.titles()))
    return response


def unread(spec: ContextSpec, context: Mapping[str, bool | int | float | str]) -> list[str]:
    """Say which names of a context the model of a bundle does not read from a request, and why."""
    told_by = {field.name: field.told_by for field in spec.fields}
    asked = [name for name, teller in told_by.items() if teller != "clock"]
    reads = f"the model reads {', '.join(asked)}" if asked else "the model reads nothing of a request's context"
    why = {name: "the clock tells it" if name in told_by else reads for name in context if name not in asked}
    return [f"context.{name} changes nothing: {reason}" for name, reason in why.items()]


def slate_table(response: SlateResponse, titles: dict[str, str]) -> str:
    """Return the slate as text: rank, score, item, title, price and the first reason in words."""
    rows = [f"{'#':>3}  {'score':>7}  {'item':<10} {'title':<{_TITLE_WIDTH}} {'price':>8}  why"]
    rows += [_row(item, titles) for item in response.items]
    total = response.took_ms.get("total", 0.0)
    rows += [f"     degraded: {reason}" for reason in response.degraded.reasons]
    rows.append(f"     bundle {response.bundle.id}, {len(response.items)} items in {total:.1f} ms")
    return "\n".join(rows)


def _request(config: dict[str, Any]) -> RecommendRequest:
    user_id = config["user_id"]
    try:
        return RecommendRequest(
            user_id=None if user_id is None else str(user_id),
            session=Session(recent=[str(item) for item in config["recent"]]),
            k=config["k"],
            exclude_items=[str(item) for item in config["exclude_items"]],
            context=config["context"],
        )
    except ValidationError as error:
        first = error.errors()[0]
        said = said_of(first["msg"])
        pointer = "/".join(str(part) for part in first["loc"])
        raise RequestError(f"{pointer}: {said}, got {first['input']!r}", pointer=f"/{pointer}") from error


def _row(item: SlateItem, titles: dict[str, str]) -> str:
    title = str(item.attributes.get("title", ""))[:_TITLE_WIDTH]
    price = item.attributes.get("price")
    shown = "" if price is None else f"{price:.2f}"
    why = "; ".join(_in_words(reason, titles) for reason in item.reasons[:1]) or ", ".join(item.sources)
    return f"{item.rank:>3}  {item.score:>7.3f}  {item.item_id:<10} {title:<{_TITLE_WIDTH}} {shown:>8}  {why}"


def _in_words(reason: Reason, titles: dict[str, str]) -> str:
    if reason.item_id is None:
        return "popular now"
    named = titles.get(reason.item_id, reason.item_id)
    return f"often follows {named}" if reason.code == "follows" else f"similar to {named}"
