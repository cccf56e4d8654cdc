"""Progress bars: for people who look, not for files."""


def hidden(progress: bool) -> bool | None:
    """Return what `disable` of tqdm should be: True without bars, else None, by which it asks for a terminal.

    Args:
        progress: whether bars are wanted. In a file, a bar is a line for every time it moves.
    """
    return None if progress else True
