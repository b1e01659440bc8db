"""What is known of an image: its objects after every step, which can all be undone."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fdrn_adapter.annotate.masks import PackedMask
from fdrn_adapter.session import SessionClick

FORMAT = "fdrn_adapter.Annotations/1"
COLOURS = (  # of objects, one after the other; light and dark photographs both show them
    "#1fb5ff", "#ff4fa3", "#a5e82e", "#ffca3a", "#c77dff", "#ff924c", "#2ee6d0", "#ff595e",
)


@dataclass(frozen=True)
class ObjectVersion:
    """An object at one time. Never changed: steps make new versions.

    Attributes:
        id: stays while the object changes.
        name, category, colour: as people set them.
        mask: its pixels.
        clicks: since `box` or `start`, in their order.
        box: that it started from, x1, y1, x2, y2.
        start: mask that it started from: drawn, imported, or what an edit made of the one before.
        done: it was finished.
        made: clicks of people in all, those before an edit too.
        strokes: of the brush and edits of the polygon.
        seconds: that people spent on it.
    """

    id: int
    name: str
    category: str
    colour: str
    mask: PackedMask
    clicks: tuple[SessionClick, ...] = ()
    box: tuple[int, int, int, int] | None = None
    start: PackedMask | None = None
    done: bool = False
    made: int = 0
    strokes: int = 0
    seconds: float = 0.0

    def described(self) -> dict[str, Any]:
        """What the page shows of it, without the mask."""
        return {
            "id": self.id, "name": self.name, "category": self.category, "colour": self.colour,
            "clicks": [[c.x, c.y, c.positive] for c in self.clicks], "done": self.done,
            "box": self.box, "made": self.made, "strokes": self.strokes, "area": self.mask.area,
            "seconds": round(self.seconds, 1),
        }


Objects = tuple[ObjectVersion, ...]


@dataclass
class Record:
    """An image's objects, with every step since the first.

    Attributes:
        size: rows and columns.
        steps: objects after each step; the first is before any.
        labels: what each step was, for people: "click"; "" for the first.
        now: the step that is shown; those after it were undone.
        revision: grows with every change, undo and redo included.
        finished: the image was marked as done.
        last_id: of the objects so far.
    """

    size: tuple[int, int]
    steps: list[Objects] = field(default_factory=lambda: [()])
    labels: list[str] = field(default_factory=lambda: [""])
    now: int = 0
    revision: int = 0
    finished: bool = False
    last_id: int = 0

    @property
    def objects(self) -> Objects:
        """After the last step that is not undone."""
        return self.steps[self.now]

    def object(self, number: int) -> ObjectVersion:
        """The object with an id.

        Raises:
            ValueError: there is none.
        """
        for found in self.objects:
            if found.id == number:
                return found
        raise ValueError(f"There is no object {number} (any more); it may have been undone.")

    def started(self, category: str) -> ObjectVersion:
        """A new object without clicks, which is not among `objects` yet."""
        number = self.last_id + 1
        colour = COLOURS[(number - 1) % len(COLOURS)]
        taken = {o.name for o in self.objects}
        place = len(taken) + 1
        while (name := f"object {place}") in taken:
            place += 1
        return ObjectVersion(number, name, category, colour, PackedMask(self.size))

    def put(self, version: ObjectVersion, label: str) -> None:
        """A step: a new object, or a new version of one."""
        places = [o.id for o in self.objects]
        if version.id in places:
            objects = tuple(version if o.id == version.id else o for o in self.objects)
        else:
            objects = (*self.objects, version)
        self.step(objects, label)

    def step(self, objects: Iterable[ObjectVersion], label: str) -> None:
        """A step to other objects; what was undone before is gone."""
        objects = tuple(objects)
        del self.steps[self.now + 1 :], self.labels[self.now + 1 :]
        self.steps.append(objects)
        self.labels.append(label)
        self.now += 1
        self.revision += 1
        self.last_id = max([self.last_id, *(o.id for o in objects)])

    def go(self, by: int) -> str:
        """Undo (-1) or redo (1). Returns what that step was.

        Raises:
            ValueError: there is nothing to.
        """
        if not 0 <= self.now + by < len(self.steps):
            raise ValueError("There is nothing to undo." if by < 0 else "There is nothing to redo.")
        label = self.labels[self.now if by < 0 else self.now + 1]
        self.now += by
        self.revision += 1
        return label

    def rename(self, number: int, **changes: Any) -> None:
        """Change an object's name, category or colour: a step."""
        self.put(replace(self.object(number), **changes), "description")

    def copy(self) -> "Record":
        """The same, which later steps do not change."""
        return replace(self, steps=list(self.steps), labels=list(self.labels))

    # -- files ---------------------------------------------------------------------------------

    def for_json(self) -> dict[str, Any]:
        """All of it for a file: versions and masks once, steps by their numbers."""
        versions = _Numbers(lambda version: self._version(version, masks))
        masks = _Numbers(PackedMask.for_json)
        steps = [[versions.of(version) for version in step] for step in self.steps]
        return {
            "format": FORMAT, "size": list(self.size), "revision": self.revision, "now": self.now,
            "finished": self.finished, "last_id": self.last_id, "labels": self.labels,
            "steps": steps, "versions": versions.made, "masks": masks.made,
        }

    @staticmethod
    def _version(version: ObjectVersion, masks: "_Numbers") -> dict[str, Any]:
        plain = {f.name: getattr(version, f.name) for f in fields(version)}
        plain["mask"] = masks.of(version.mask)
        plain["start"] = None if version.start is None else masks.of(version.start)
        plain["clicks"] = [list(asdict(c).values()) for c in version.clicks]
        return plain

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Record":
        """A record from a file.

        Raises:
            ValueError: another format, or it is damaged.
        """
        try:
            if stored["format"] != FORMAT:
                raise ValueError(f"its format is {stored['format']!r:.60}, not {FORMAT!r}")
            rows, cols = stored["size"]
            masks = [PackedMask.from_json(m, (rows, cols)) for m in stored["masks"]]
            versions = [_version_of(v, masks) for v in stored["versions"]]
            steps = [tuple(versions[i] for i in step) for step in stored["steps"]]
            record = cls(
                (rows, cols), steps, list(stored["labels"]), stored["now"], stored["revision"],
                stored["finished"], stored["last_id"],
            )
            if not 0 <= record.now < len(steps) == len(record.labels):
                raise ValueError(f"it is at step {record.now} of {len(steps)}")
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"something in it is missing or of another kind ({error!r})"
                             ) from error
        return record


def _version_of(stored: dict[str, Any], masks: list[PackedMask]) -> ObjectVersion:
    box, start = stored["box"], stored["start"]
    return ObjectVersion(**{
        **stored, "mask": masks[stored["mask"]], "start": None if start is None else masks[start],
        "clicks": tuple(SessionClick(*click) for click in stored["clicks"]),
        "box": None if box is None else tuple(box),
    })


class _Numbers:
    """Numbers for things that many steps share, so that a file holds each once."""

    def __init__(self, make: Callable[[Any], Any]):
        self._make, self.made = make, []
        self._known: dict[int, int] = {}

    def of(self, thing: Any) -> int:
        if id(thing) not in self._known:
            self._known[id(thing)] = len(self.made)
            self.made.append(self._make(thing))
        return self._known[id(thing)]
