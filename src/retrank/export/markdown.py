"""Lists and tables of a model card, as Markdown."""

from collections.abc import Iterable, Mapping


def bullets(facts: Mapping[str, str]) -> str:
    """Return one line per fact."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; bars in cells are escaped."""
    names = [*heads]
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
