"""What the settings name: a library, and the bundle in it that a first start serves."""

from pathlib import Path
from typing import NamedTuple

from retrank.contract.bundle import library_of, locate
from retrank.contract.errors import BundleError


class Configured(NamedTuple):
    """A library, and one of its bundles.

    Attributes:
        root: of the library.
        name: of the bundle; None when the library's pointer leads nowhere, and nothing but the document can say more.
        why: what is wrong with the pointer.
    """

    root: Path
    name: str | None
    why: str = ""

    @classmethod
    def at(cls, path: Path) -> "Configured":
        """Look at a bundle directory, or at a root whose `current` points at one.

        Raises:
            BundleError: there is neither.
        """
        root = library_of(path.resolve())
        try:
            directory = locate(path)
        except BundleError as error:
            if not root.is_dir() or root != path.resolve():
                raise
            return cls(root, None, str(error))
        if directory == root:
            return cls(root, None, f"{root}: no pointer `current`; export a bundle there, or name one in `bundle`")
        return cls(root, directory.name)

    def known(self) -> str:
        """Return the name of the bundle.

        Raises:
            BundleError: the pointer leads nowhere.
        """
        if self.name is None:
            raise BundleError(self.why)
        return self.name
