"""What the bridge remembers of one image: a session on it, and the clicks of its objects."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from fdrn_adapter.serving.prompts import Start, merged
from fdrn_adapter.session.interactive import InteractiveSession, SessionClick


class ImageObjects:
    """An image that is open in a session, with its objects.

    Attributes:
        key: names the image.
        lock: to be held by who uses the rest.
        session: None until `opened`.
        nbytes: what session and objects took after the last request.
    """

    def __init__(self, key: str):
        self.key, self.lock, self.nbytes = key, threading.Lock(), 0
        self.session: InteractiveSession | None = None
        # Object -> start and all of its clicks, in the order of use. Steps of the session are never
        # dropped: a request that leaves an object's clicks in the middle gets a copy.
        self._objects: OrderedDict[str, tuple[Start, list[SessionClick]]] = OrderedDict()

    def opened(self, session: InteractiveSession) -> None:
        """Take a session in which the image is set."""
        self.session = session
        self._objects[session.current_object] = (Start(), [])

    def go_to(
        self, start: Start, positive: Sequence[SessionClick], negative: Sequence[SessionClick],
        previous: Sequence[SessionClick] | None,
    ) -> tuple[tuple[SessionClick, ...], int]:
        """Bring the session to the object with these clicks, with as few new ones as possible.

        Args:
            start: of the object.
            positive, negative: its clicks, each list in its order.
            previous: see `PromptSession.predict`.

        Returns:
            the clicks in their order, and how many of them had to be made.
        """
        session = self.session
        wanted = None if previous is None else merged(previous, positive, negative)[1]
        name, kept, clicks = self._closest(start, positive, negative, wanted)
        if name is None:
            name = session.add_object()
            start.begin(session)
            self._objects[name] = (start, [])
        else:
            session.select_object(name)
            session.keep_clicks(kept + start.clicks)
        known = self._objects[name][1]
        if len(clicks) > kept < len(known):
            name, known = session.copy_object(), known[:kept]
            self._objects[name] = (start, known)
        self._objects.move_to_end(name)
        session.add_clicks((c.x, c.y, c.positive) for c in clicks[kept:])
        known += clicks[kept:]
        return tuple(clicks), len(clicks) - kept

    def _closest(
        self, start: Start, positive: Sequence, negative: Sequence, wanted: Sequence | None
    ) -> tuple[str | None, int, list[SessionClick]]:
        """The object with the longest beginning in common, its length, and all clicks in order."""
        best = (None, 0, merged((), positive, negative)[1] if wanted is None else list(wanted))
        for name, (its_start, known) in reversed(self._objects.items()):
            if its_start != start:
                continue
            if wanted is None:
                kept, clicks = merged(known, positive, negative)
            else:
                kept, clicks = _common(known, wanted), list(wanted)
            if best[0] is None or kept > best[1]:
                best = (name, kept, clicks)
        return best

    def shrink(self, max_bytes: int) -> None:
        """Forget the objects that were not asked for the longest, but not the last one."""
        while self.session.nbytes > max_bytes and len(self._objects) > 1:
            name, _ = self._objects.popitem(last=False)
            self.session.delete_object(name)
        self.nbytes = self.session.nbytes


def _common(a: Sequence, b: Sequence) -> int:
    number = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        number += 1
    return number
