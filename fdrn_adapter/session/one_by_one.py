"""A session's calls: one after the other, and each done or not done at all."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn, SupportsIndex


def one_by_one(session_class: type) -> type:
    """Make all public methods and properties of a session's class, also inherited ones, such calls.

    Threads wait for each other. A call that ends in an error, Ctrl-C included, leaves everything as
    it was.
    """
    for name in dir(session_class):
        member = None if name.startswith("_") else getattr(session_class, name)
        if isinstance(member, property) and member.fget is not None:
            setattr(session_class, name, property(_waiting(member.fget), doc=member.__doc__))
        elif callable(member):
            setattr(session_class, name, _whole(member))
    return session_class


def _waiting(method: Callable) -> Callable:
    @functools.wraps(method)
    def waiting(self: "OneByOne") -> Any:
        with self._lock:
            return method(self)

    return waiting


def _whole(method: Callable) -> Callable:
    @functools.wraps(method)
    def whole(self: "OneByOne", *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            before = self._everything()
            try:
                return method(self, *args, **kwargs)
            except BaseException:
                self._put_back(before)
                raise

    return whole


class OneByOne:
    """What `one_by_one` needs of a session: its lock, and all that calls change."""

    pipeline: Any
    _image: Any
    _index: int
    _left: OrderedDict[str, Any]
    _objects: list[Any]

    def _start_calls(self) -> None:
        self._lock = threading.RLock()

    def _everything(self) -> tuple[dict[str, Any], Any]:
        """For `_put_back`. What calls change in place is copied, steps and maps never change."""
        own = {
            "_image": self._image, "_index": self._index, "_left": OrderedDict(self._left),
            "_objects": [replace(o, history=list(o.history)) for o in self._objects],
        }
        return own, self.pipeline.everything()

    def _put_back(self, before: tuple[dict[str, Any], Any]) -> None:
        own, pipeline = before
        self.__dict__.update(own)
        self.pipeline.put_back(pipeline)

    def __deepcopy__(self, memo: dict) -> NoReturn:
        self._refuse_copies()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        self._refuse_copies()

    def _refuse_copies(self) -> NoReturn:
        raise TypeError(
            "A session is not copied or pickled: it shares its model with others. Make another by "
            "InteractiveSession(session.model), and hand objects on by save_state and load_state."
        )
