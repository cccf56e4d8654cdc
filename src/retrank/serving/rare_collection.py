"""Keep the garbage collector of a process that answers out of the way of its answers.

A slate lives on hundreds of objects at once, so that Python's default, a look at the young ones whenever 700 more are
there than before, comes every ten to twenty slates. Such a look took up to 4 ms, every tenth one 6 to 14 and a full one
19 to 31, and the young ones held nothing to free: what a request makes, it frees itself, which the tests hold it to.
Looking seldom costs little, as only what forms cycles waits for it.
"""

import gc

MORE_OBJECTS = 50_000
"""So many objects more than after the last look, and the collector looks again; some tens of MB if all were garbage."""


def collect_rarely() -> None:
    """Set everything that is there apart for good, and from now on look seldom; call it once the process is ready.

    What is set apart is freed as usual when nobody refers to it. Only a cycle of it would stay, and a recommender that
    is swapped out is part of none.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(MORE_OBJECTS, *older)
