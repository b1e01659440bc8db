"""Counters of a server in the text format that Prometheus reads."""

import threading
from collections import Counter
from collections.abc import Callable

from fdrn_adapter.engines import Batches

SIZES = (1, 2, 4, 8, 16, 32)
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by route and status, their times, and clicks; gauges are asked when read.

    Args:
        gauges: name -> (help, value).
        batches: that clicks go through, None for none; asked when read.
    """

    def __init__(
        self, gauges: dict[str, tuple[str, Callable[[], float]]], batches: Batches | None = None
    ):
        self._gauges, self._batches = gauges, batches
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._clicks: Counter[str] = Counter()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds
            for bucket in BUCKETS_S:
                self._buckets[route, bucket] += seconds <= bucket

    def clicks(self, computed: int, known: int) -> None:
        """Count the clicks of an answer: those that were computed, those that were known."""
        with self._lock:
            self._clicks["computed"] += computed
            self._clicks["known"] += known

    def text(self) -> str:
        """All of them, in Prometheus' text format 0.0.4."""
        lines = ["# HELP fdrn_requests_total Answered requests.",
                 "# TYPE fdrn_requests_total counter"]
        with self._lock:
            counts = dict(sorted(self._requests.items()))
            lines += [
                f'fdrn_requests_total{{route="{route}",status="{status}"}} {n}'
                for (route, status), n in counts.items()
            ]
            lines += ["# HELP fdrn_request_seconds Time from a request's body to its answer.",
                      "# TYPE fdrn_request_seconds histogram"]
            for route in sorted(self._seconds):
                count = sum(n for (path, _), n in counts.items() if path == route)
                lines += self._histogram(route, count)
            lines += ["# HELP fdrn_clicks_total Clicks in answers.",
                      "# TYPE fdrn_clicks_total counter"]
            lines += [f'fdrn_clicks_total{{kind="{k}"}} {n}' for k, n in self._clicks.items()]
        if self._batches is not None:
            lines += _batch_lines(self._batches)
        for name, (text, value) in self._gauges.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value():g}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, route: str, count: int) -> list[str]:
        name = "fdrn_request_seconds"
        return [
            *(f'{name}_bucket{{route="{route}",le="{b}"}} {self._buckets[route, b]}'
              for b in BUCKETS_S),
            f'{name}_bucket{{route="{route}",le="+Inf"}} {count}',
            f'{name}_sum{{route="{route}"}} {self._seconds[route]:.6f}',
            f'{name}_count{{route="{route}"}} {count}',
        ]


def _batch_lines(batches: Batches) -> list[str]:
    """How many sessions were run in a call of the network; the count is that of such calls."""
    name, sizes = "fdrn_batch_sessions", batches.sizes
    lines = [f"# HELP {name} Sessions whose clicks were run in one call of the network.",
             f"# TYPE {name} histogram"]
    for call in sorted({called for called, _ in sizes}):
        found = {size: n for (called, size), n in sizes.items() if called == call}
        count, label = sum(found.values()), f'call="{call}"'
        within = {str(b): sum(n for size, n in found.items() if size <= b) for b in SIZES}
        lines += [f'{name}_bucket{{{label},le="{b}"}} {n}' for b, n in within.items()]
        lines += [f'{name}_bucket{{{label},le="+Inf"}} {count}',
                  f"{name}_sum{{{label}}} {sum(size * n for size, n in found.items())}",
                  f"{name}_count{{{label}}} {count}"]
    failed = "fdrn_batches_failed_total"
    return [*lines, f"# HELP {failed} Batches that failed, whose clicks were run one by one.",
            f"# TYPE {failed} counter", f"{failed} {batches.failed}"]
