"""The bundle on disk: sealed once by export, verified and opened by serving. The only contract between the halves.

    <root>/current            pointer to the active bundle
    <root>/<bundle_id>/       bundle_id = first 16 hex digits of the SHA-256 of manifest.json
        manifest.json         sizes, hashes, provenance, measured quality
        query_encoder.onnx    item_rows, and ages and actions if it reads them, [B, L] int64, and context [B, 1, F]
                              int64 if it reads that -> query [B, D] float32
        items.faiss           index over item vectors; ids are item rows
        item_vectors.npy      [N + 1, D] float32, row 0 is zero
        item_ids.npy          [bytes] uint8, item_id_offsets.npy [N + 1] int64, item_id_table.npy [places] uint64;
                              ids of items and where to find each, see `Vocab`
        user_ids.npy          user_id_offsets.npy, user_id_table.npy: the same of users
        attribute_codes.npy   [T, N + 1] int32, attribute_integers.npy [I, N + 1] int64, attribute_numbers.npy
                              [F, N + 1] float64, attribute_words.npy [bytes] uint8, attribute_word_offsets.npy [W + 1]
                              int64: display attributes, see `contract.attributes`
        history_items.npy     [E] int32 item rows of all known users, oldest first
        history_offsets.npy   [U + 1] int64
        history_times.npy     [E] int64 microseconds UTC, of each event; [0] when the data has no times
        history_actions.npy   [E] int16 action rows, 1 = the first of `actions` in features.json, 0 = unknown; [0] when
                              the data has no actions
        popular_items.npy     [N] int32 item rows, most popular first
        popularity.npy        [N + 1] float32 share of the most popular item's score, 0..1, by item row
        covisit_items.npy     [N + 1, K] int32, strongest successor first, 0 = none
        covisit_weights.npy   [N + 1, K] float32
        features.json         the history encoding the model was trained with
        golden.jsonl          requests with the answers they must get
        reference_histograms.npz   score and history-length histograms of the training data
        MODEL_CARD.md         for people: purpose, data, quality, limits

    With a second stage also, all or none:
        ranker.onnx           what `RankerArrays` names -> head_scores [B, C, H] float32
        ranker.json           sources, features, heads and their calibration, see RankerSpec
        item_facts.npy        [N + 1, 4 + K] float32, see ItemFacts
        trending_items.npy    [R] int64 items with an event, those liked most recently first
        fresh_items.npy       [R] int64 items first met within the `fresh_days` of ranker.json, in the same order
        neighbour_items.npy   [N + 1, K] int32, what goes with an item, strongest first, 0 = none
        neighbour_weights.npy [N + 1, K] float32
        ranker_golden.npz     inputs of the graph with the outputs they must get

From a model that reads what items are also, both or none:
        item_encoder.onnx     codes [R, F], tokens [R, T] int64 -> item_vectors [R, D] float32, of items of no training
        item_encoding.json    from attributes to codes and tokens, see ItemEncoding

From a model that reads attributes of users:
        user_fields.npy       [U + 1, F] int32 rows of the fields of `context` in features.json that users tell, 0 =
                              unknown or told by others; row 0 is nobody

From a model that goes by ids alone, of a catalogue with items that nobody touched in training:
        unlearned_items.npy   [N + 1] bool, those items; row 0 is false

Nothing here is pickled, and nothing is parsed before its hash was checked: FAISS and ONNX files are hostile until then.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from retrank.contract.errors import BundleError, ChecksumError, FormatError, SourceError, said_of
from retrank.contract.files import POINTER, current, publish, sha256_of
from retrank.contract.manifest import FORMAT_VERSION, AnyManifest, Manifest, SealedFile
from retrank.contract.rest import Rest, no_rest
from retrank.contract.vocab import VocabFiles

MANIFEST = "manifest.json"
QUERY_ENCODER = "query_encoder.onnx"
INDEX = "items.faiss"
ITEM_VECTORS = "item_vectors.npy"
ITEM_VOCAB = VocabFiles("item_ids.npy", "item_id_offsets.npy", "item_id_table.npy")
USER_VOCAB = VocabFiles("user_ids.npy", "user_id_offsets.npy", "user_id_table.npy")
ATTRIBUTE_CODES = "attribute_codes.npy"
ATTRIBUTE_INTEGERS = "attribute_integers.npy"
ATTRIBUTE_NUMBERS = "attribute_numbers.npy"
ATTRIBUTE_WORDS = "attribute_words.npy"
ATTRIBUTE_WORD_OFFSETS = "attribute_word_offsets.npy"
HISTORY_ITEMS = "history_items.npy"
HISTORY_OFFSETS = "history_offsets.npy"
HISTORY_TIMES = "history_times.npy"
HISTORY_ACTIONS = "history_actions.npy"
POPULAR_ITEMS = "popular_items.npy"
POPULARITY = "popularity.npy"
COVISIT_ITEMS = "covisit_items.npy"
COVISIT_WEIGHTS = "covisit_weights.npy"
FEATURES = "features.json"
GOLDEN = "golden.jsonl"
REFERENCE_HISTOGRAMS = "reference_histograms.npz"
MODEL_CARD = "MODEL_CARD.md"
FILES = (
    QUERY_ENCODER, INDEX, ITEM_VECTORS, *ITEM_VOCAB, *USER_VOCAB,
    ATTRIBUTE_CODES, ATTRIBUTE_INTEGERS, ATTRIBUTE_NUMBERS, ATTRIBUTE_WORDS, ATTRIBUTE_WORD_OFFSETS,
    HISTORY_ITEMS, HISTORY_OFFSETS, HISTORY_TIMES, HISTORY_ACTIONS,
    POPULAR_ITEMS, POPULARITY, COVISIT_ITEMS, COVISIT_WEIGHTS, FEATURES, GOLDEN, REFERENCE_HISTOGRAMS, MODEL_CARD,
)  # fmt: skip
RANKER = "ranker.onnx"
RANKER_SPEC = "ranker.json"
ITEM_FACTS = "item_facts.npy"
TRENDING_ITEMS = "trending_items.npy"
FRESH_ITEMS = "fresh_items.npy"
NEIGHBOUR_ITEMS = "neighbour_items.npy"
NEIGHBOUR_WEIGHTS = "neighbour_weights.npy"
RANKER_GOLDEN = "ranker_golden.npz"
RANKER_FILES = (
    RANKER, RANKER_SPEC, ITEM_FACTS, TRENDING_ITEMS, FRESH_ITEMS, NEIGHBOUR_ITEMS, NEIGHBOUR_WEIGHTS, RANKER_GOLDEN,
)  # fmt: skip
ITEM_ENCODER = "item_encoder.onnx"
ITEM_ENCODING = "item_encoding.json"
ITEM_ENCODER_FILES = (ITEM_ENCODER, ITEM_ENCODING)
USER_FIELDS = "user_fields.npy"
UNLEARNED_ITEMS = "unlearned_items.npy"
_OPTIONAL = (RANKER_FILES, ITEM_ENCODER_FILES, (USER_FIELDS,), (UNLEARNED_ITEMS,))
_ID_LENGTH = 16


class VerifiedBundle(NamedTuple):
    """A bundle whose every file was checked."""

    bundle_id: str
    directory: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Return the path of one sealed file."""
        return self.directory / name


def seal_files(directory: Path) -> dict[str, SealedFile]:
    """Return size and hash of every file a bundle must hold, and of those of the parts it may hold besides.

    Raises:
        BundleError: one of them is missing.
    """
    parts = (part for part in _OPTIONAL if (directory / part[0]).is_file())
    wanted = [*FILES, *(name for part in parts for name in part)]
    missing = [name for name in wanted if not (directory / name).is_file()]
    if missing:
        raise BundleError(f"{directory}: bundle is incomplete, missing {missing}; write every file before sealing")
    return {
        name: SealedFile(size=(directory / name).stat().st_size, sha256=sha256_of(directory / name)) for name in wanted
    }


def seal(staged: Path, manifest: Manifest, root: Path) -> VerifiedBundle:
    """Write the manifest into a staged directory and publish it under its content hash as the current bundle.

    Raises:
        FormatError: the manifest would not read back, for instance because a figure is not a number.
    """
    text = manifest.model_dump_json(indent=2) + "\n"
    parse_manifest(text.encode(), staged / MANIFEST)
    (staged / MANIFEST).write_text(text, encoding="utf-8")
    name = bundle_id(text.encode())
    return VerifiedBundle(name, publish(staged, root, name), manifest)


def verify(path: Path, rest: Rest = no_rest) -> VerifiedBundle:
    """Check a bundle before anything in it is parsed.

    Args:
        path: a bundle directory, or a root whose `current` points at one.
        rest: called between pieces of work.

    Raises:
        BundleError: no readable manifest; a file is missing, was added, or is a link that may lead outside.
        ChecksumError: a file differs from what was sealed, the manifest included.
        FormatError: another major format version, or a manifest of another shape.
    """
    directory = locate(path)
    _refuse_strangers(directory)
    name, manifest = describe(directory)
    _verify_files(directory, manifest.files, rest)
    return VerifiedBundle(name, directory, manifest)


def locate(path: Path) -> Path:
    """Return the bundle directory that a path, or the `current` of a root, names; nothing in it is looked at.

    Raises:
        BundleError: there is none.
    """
    try:
        return current(path.resolve())
    except SourceError as error:
        raise BundleError(f"no bundle to open: {error}") from error


def library_of(path: Path) -> Path:
    """Return the root that a path names, or that the bundle it names lies in; a root may have lost its pointer."""
    is_root = (path / POINTER).exists() or (path.is_dir() and not (path / MANIFEST).exists())
    return path if is_root else path.parent


def describe(directory: Path) -> tuple[str, Manifest]:
    """Return id and manifest of a bundle directory; the other files are not looked at, so it proves nothing of them.

    Raises:
        BundleError: no readable manifest.
        ChecksumError: the manifest is not the one that gave the directory its name.
        FormatError: another major format version, or a manifest of another shape.
    """
    raw = _read_manifest(directory)
    found = bundle_id(raw)
    if directory.name != found:
        raise ChecksumError(
            f"{directory / MANIFEST}: its hash is {found} but the bundle is called {directory.name}; "
            "the manifest was changed after sealing or the folder was renamed, export the bundle again"
        )
    return found, parse_manifest(raw, directory / MANIFEST)


def is_complete(names: Collection[str]) -> bool:
    """Tell whether these are the files of a bundle: all that each must hold, and of what it may hold all or none."""
    besides = [part for part in _OPTIONAL if set(names) & set(part)]
    return set(names) == {*FILES, *(name for part in besides for name in part)}


def bundle_id(manifest: bytes) -> str:
    """Return the name of the bundle that a manifest describes."""
    return hashlib.sha256(manifest).hexdigest()[:_ID_LENGTH]


def _refuse_strangers(directory: Path) -> None:
    """Refuse links, which could be pointed elsewhere after the check, and files that nobody sealed."""
    if directory.is_symlink():
        raise BundleError(f"{directory}: is a symbolic link; a bundle must be a real directory, copy it instead")
    found = {entry.name: entry for entry in directory.iterdir()}
    linked = sorted(name for name, entry in found.items() if entry.is_symlink())
    if linked:
        raise BundleError(f"{directory}: {linked} are symbolic links; a bundle holds real files only, copy it again")
    if MANIFEST not in found:
        raise BundleError(f"{directory}: no {MANIFEST}; is this a bundle, or a folder whose 'current' names one?")
    extra = sorted(found.keys() - {*FILES, *(name for part in _OPTIONAL for name in part), MANIFEST})
    if extra:
        raise BundleError(f"{directory}: {extra} were not sealed with the bundle; remove them or export it again")


def _read_manifest(directory: Path) -> bytes:
    try:
        return (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{directory}: no readable {MANIFEST} ({error.strerror}); is this a bundle?") from error


def parse_manifest(raw: bytes, path: Path | str) -> Manifest:
    """Parse a manifest; the version is looked at first, since another version may have other fields.

    Args:
        raw: the bytes of the file.
        path: where they come from, for messages.

    Raises:
        FormatError: another major format version, or a manifest of another shape.
    """
    try:
        version = AnyManifest.model_validate_json(raw).format_version
        if version != FORMAT_VERSION:
            raise FormatError(f"{path}: bundle format {version}, this version reads {FORMAT_VERSION}; export it again")
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        said = said_of(first["msg"])
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"{path}: field {where!r}: {said}; was it written by another version?") from error


def _verify_files(directory: Path, files: Mapping[str, SealedFile], rest: Rest) -> None:
    if not is_complete(files):
        raise FormatError(
            f"{directory}: the manifest lists {sorted(files)}, expected {sorted(FILES)}, and with a ranker also "
            f"{sorted(RANKER_FILES)}, with an item encoder {sorted(ITEM_ENCODER_FILES)}, where users tell fields "
            f"{USER_FIELDS}, where nobody touched some items {UNLEARNED_ITEMS}"
        )
    optional = [name for part in _OPTIONAL for name in part]
    unsealed = sorted(name for name in optional if name not in files and (directory / name).exists())
    if unsealed:
        raise BundleError(f"{directory}: {unsealed} were not sealed with the bundle; remove them or export it again")
    for name, sealed in files.items():
        path = directory / name
        if not path.is_file():
            raise BundleError(f"{path}: missing; copy the whole bundle again")
        size = path.stat().st_size
        if size != sealed.size:
            raise ChecksumError(f"{path}: {size} bytes, sealed with {sealed.size}; copy the bundle again")
        digest = sha256_of(path, rest)
        if digest != sealed.sha256:
            raise ChecksumError(f"{path}: SHA-256 {digest}, sealed as {sealed.sha256}; copy the bundle again")
