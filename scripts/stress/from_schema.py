"""Hypothesis strategies from the committed OpenAPI document: requests that fit its schemas, and some that nearly do."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import strategies as st

from stress.fuzz_cases import JSON, Case, World

_MOST_LISTED, _LONGEST, _DEEPEST = 4, 40, 5
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
Schema = dict[str, Any]


class Operation(NamedTuple):
    """One route of the document; `body` is the schema of its JSON, None without one."""

    method: str
    path: str
    parameters: Sequence[Schema]
    body: Schema | None


def operations(document: Schema) -> list[Operation]:
    """Return the routes of a document."""
    found = []
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            found.append(Operation(method.upper(), path, said.get("parameters", ()), content.get("schema")))
    return found


def requests(document: Schema, world: World) -> st.SearchStrategy[Case]:
    """Return requests of all routes; three of four bodies fit their schema, the others differ in a place or two."""
    schemas = _Schemas(document["components"]["schemas"], world)
    return st.sampled_from(operations(document)).flatmap(lambda operation: _request(operation, schemas))


@st.composite
def _request(draw: st.DrawFn, operation: Operation, schemas: "_Schemas") -> Case:
    target, query, headers = operation.path, [], [JSON]
    for parameter in operation.parameters:
        if not parameter.get("required") and draw(st.booleans()):
            continue
        value = draw(schemas.of(parameter["schema"]) if draw(st.integers(0, 3)) else _SCALARS)
        text = quote(str(value).encode("utf-8", "replace"), safe="")
        if parameter["in"] == "path":
            target = target.replace(f"{{{parameter['name']}}}", text or "%20")
        elif parameter["in"] == "query":
            query.append(f"{parameter['name']}={text}")
        else:
            headers.append((parameter["name"].lower().encode(), text.encode()))
    body = b""
    if operation.body is not None:
        value = draw(schemas.of(operation.body))
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
            value = draw(_spoiled(value))
        body = json.dumps(value).encode("utf-8", "surrogatepass")
    return Case(operation.method, "?".join([target, *(["&".join(query)] if query else [])]), headers, [body])


@st.composite
def _spoiled(draw: st.DrawFn, value: Any) -> Any:
    """Return a value with one place replaced, left out or named otherwise."""
    places = list(_places(value))
    if not places:
        return draw(ANYTHING)
    holder, key = draw(st.sampled_from(places))
    kind = draw(st.integers(0, 3))
    if kind < 2 or not isinstance(holder, dict):
        holder[key] = draw(ANYTHING)
    elif kind == 2:
        del holder[key]
    else:
        holder[draw(st.text(max_size=12))] = holder.pop(key)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += [(value, key), *_places(inner)]
    return found


class _Schemas:
    """Turns schemas into strategies; those that hold themselves end after a few levels."""

    def __init__(self, named: Schema, world: World) -> None:
        self._named = named
        self._known = {"user_id": list(world.users), "item_id": list(world.items)}
        self._made: dict[tuple[str, int], st.SearchStrategy[Any]] = {}

    def of(self, schema: Schema, depth: int = 0, name: str = "") -> st.SearchStrategy[Any]:
        """Return values that fit a schema, fresh ones each time; `name` is that of the field."""
        if "$ref" in schema:
            return self._referred(schema["$ref"].rpartition("/")[2], depth)
        several = next((schema[word] for word in ("anyOf", "oneOf", "allOf") if word in schema), None)
        if several is not None:
            return self._any_of(several, depth, name)
        if "const" in schema or "enum" in schema:
            return st.sampled_from(schema.get("enum", [schema.get("const")]))
        if schema.get("type") == "object":
            return self._object(schema, depth)
        return self._array(schema, depth, name) if schema.get("type") == "array" else self._scalar(schema, name)

    def _array(self, schema: Schema, depth: int, name: str) -> st.SearchStrategy[Any]:
        low = schema.get("minItems", 0)
        high = max(low, min(schema.get("maxItems", _MOST_LISTED), _MOST_LISTED))
        return st.lists(self.of(schema.get("items", {}), depth + 1, name), min_size=low, max_size=high)

    def _referred(self, name: str, depth: int) -> st.SearchStrategy[Any]:
        key = name, depth
        if key not in self._made:
            self._made[key] = st.deferred(lambda: self.of(self._named[name], depth + 1))
        return self._made[key]

    def _any_of(self, several: Sequence[Schema], depth: int, name: str) -> st.SearchStrategy[Any]:
        shallow = [one for one in several if one.get("type") not in (None, "array", "object")]
        chosen = shallow if depth > _DEEPEST and shallow else several
        return st.one_of([self.of(one, depth, name) for one in chosen])

    def _object(self, schema: Schema, depth: int) -> st.SearchStrategy[Any]:
        fields, required = schema.get("properties", {}), set(schema.get("required", ()))
        wanted = {name: self.of(one, depth + 1, name) for name, one in fields.items() if name in required}
        others = {
            name: self.of(one, depth + 1, name)
            for name, one in fields.items()
            if name not in required and depth <= _DEEPEST
        }
        if not fields:
            free = schema.get("additionalProperties")
            inner = self.of(free, depth + 1) if isinstance(free, dict) else _SCALARS
            return st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3)
        return st.fixed_dictionaries(wanted, optional=others)

    def _scalar(self, schema: Schema, name: str) -> st.SearchStrategy[Any]:
        kind = schema.get("type")
        if kind == "string":
            return self._text(schema, name)
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
        if kind == "integer":
            return st.integers(low, high)
        if kind == "number":
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        return {"boolean": st.booleans(), "null": st.none()}.get(str(kind), ANYTHING)

    def _text(self, schema: Schema, name: str) -> st.SearchStrategy[str]:
        if schema.get("format") == "date-time":
            return st.datetimes(timezones=st.just(None)).map(lambda at: f"{at.isoformat()}Z")
        if "pattern" in schema:
            return st.from_regex(re.compile(str(schema["pattern"])), fullmatch=True)
        low = schema.get("minLength", 0)
        text = st.text(min_size=low, max_size=max(low, min(schema.get("maxLength", _LONGEST), _LONGEST)))
        return st.one_of(st.sampled_from(self._known[name]), text) if name in self._known else text
