"""Where items are worked on: the one seam between what is done and on how many machines."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fdrn_adapter.workers import on_ray, processes

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """Who works on items.

    Attributes:
        jobs: processes on this machine; 1: this process.
        ray: address of a Ray cluster instead, "" for the one at hand or a new local one; None: no
            Ray.
        threads: of each worker.
        gpu: whether each task of Ray needs a GPU; processes share what there is.
    """

    jobs: int = 1
    ray: str | None = None
    threads: int = 1
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"--jobs should be at least 1, got {self.jobs}.")
        if self.ray is not None and self.jobs > 1:
            raise ValueError(
                f"--jobs {self.jobs} is for processes on this machine, --ray for a cluster, which "
                "has its own number of workers; leave one of them out."
            )

    @property
    def here(self) -> bool:
        """Whether this process does all by itself."""
        return self.ray is None and self.jobs == 1

    def check(self) -> None:
        """See that they can be had, before anything is begun.

        Raises:
            ValueError: Ray is not installed, or no cluster answers.
        """
        if self.ray is not None:
            on_ray.check(self.ray)

    def each(self, work: Callable[[Any], T], items: Sequence[Any]) -> Iterator[tuple[int, T]]:
        """(number, work(item)) of each item, as they get done; see `in_order`.

        Items of a worker that was lost, to kill -9 or with its machine, are worked on again.

        Args:
            work: is copied once into each worker, by pickle. What takes long to make (a network) is
                best made at its first call, and kept in it.
            items: small; texts of errors name them by `str`.

        Raises:
            RuntimeError: workers are lost again and again.
            Exception: what `work` raises.
        """
        if self.ray is not None:
            yield from on_ray.each(work, items, self.ray, self.threads, self.gpu)
        elif self.jobs == 1 or len(items) <= 1:
            yield from enumerate(map(work, items))
        else:
            yield from processes.each(work, items, self.jobs, self.threads)


HERE = Workers()


def in_order(numbered: Iterable[tuple[int, T]]) -> Iterator[T]:
    """Results in the order of their numbers 0, 1, ...; early ones wait."""
    waiting: dict[int, T] = {}
    following = 0
    for number, result in numbered:
        waiting[number] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1
