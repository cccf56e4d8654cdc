"""Under which terms known datasets may be used; for everything else the person who brought the data has to know."""

_MOVIELENS = (
    "GroupLens terms of use: research; no redistribution, and no commercial use, without permission; "
    "cite Harper, Konstan 2015"
)
_KNOWN = {
    "online_retail": "CC BY 4.0 (Chen 2015, UCI Machine Learning Repository, dataset 352)",
    "movielens": _MOVIELENS,
    "ml1m": _MOVIELENS,
    "ml-1m": _MOVIELENS,
    "deskdrop": "Open Database License (ODbL) 1.0",
}
UNKNOWN = "not known to retrank; ask whoever supplied the events before you pass the model on"


def licence_of(name: str) -> str:
    """Return the licence of a store by its name, which readers of known datasets set by default."""
    return next((licence for prefix, licence in _KNOWN.items() if name.startswith(prefix)), UNKNOWN)
