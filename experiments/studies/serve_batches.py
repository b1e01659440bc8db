"""Clicks a second of several users on one network: one at a time, beside each other, in batches.

    python experiments/studies/serve_batches.py --model H2-hrnet18s --device cuda --users 1,2,4,8

Every user has an image of 481x321 pixels, a session and a thread, and clicks as soon as the last
click is answered; every fifth click begins another object. The ways are timed in turns, round after
round:

    one at a time   as `fdrn serve --batch 1` answers: a lock around each click
    threads         each in its own thread, without more
    batches         as `fdrn serve --batch N`

`--http` asks two servers in processes of their own instead, `fdrn serve --batch 1` and `--batch N`,
with images sent once; users are threads of this process. Prints medians over rounds of clicks a
second, of a click's milliseconds, and sessions in a call.
"""

import argparse
import base64
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.timing.scene import ellipse, picture
from fdrn_adapter.timing.speed import Machine
from fdrn_adapter.zoo.named import announced

SIZE = (321, 481)
PER_OBJECT = 5
ONE, THREADS, BATCHES = "one at a time", "threads", "batches"

Click = Callable[[int, int, bool], object]


class User:
    """Clicks on an image of its own: positive ones on the ellipse, others anywhere.

    Args:
        number: of the user.
    """

    def __init__(self, number: int):
        self.number, shift = number, 29 * number
        self.image = np.roll(picture(SIZE), shift, axis=1)
        self._inside = np.argwhere(np.roll(ellipse(SIZE), shift, axis=1))

    def places(self, clicks: int, *round_: int) -> Iterator[tuple[int, int, bool]]:
        """(x, y, positive) of one click after the other; others in each round."""
        random = np.random.default_rng((self.number, *round_))
        for number in range(clicks):
            row, col = self._inside[random.integers(len(self._inside))]
            positive = number % PER_OBJECT % 2 == 0
            if not positive:
                row, col = (int(random.integers(side)) for side in SIZE)
            yield int(col), int(row), positive


# -- ways ------------------------------------------------------------------------------------------


class Sessions:
    """Users with sessions in this process."""

    def __init__(self, args: argparse.Namespace):
        self.model = announced(args.model, args.codebase).model.to(args.device)
        self.options = {"engine": args.engine, "crop": args.crop}
        self.batches = engines.Batches(args.batch, args.wait_ms)
        self.lock = threading.Lock()
        self.ways = (ONE, THREADS, BATCHES)
        with self.batches.rehearsal():
            self._session(BATCHES).warm_up()
        self.engine = self._session(ONE).engine
        self._known: dict[tuple, fdrn_adapter.InteractiveSession] = {}

    def _session(self, way: str) -> fdrn_adapter.InteractiveSession:
        batches = self.batches if way == BATCHES else None
        return fdrn_adapter.InteractiveSession(self.model, batches=batches, **self.options)

    def user(self, way: str, user: User) -> Click:
        """How a user clicks; its image is encoded."""
        if (way, user.number) not in self._known:
            session = self._known[way, user.number] = self._session(way)
            session.set_image(user.image)
        session = self._known[way, user.number]
        around = self.lock if way == ONE else contextlib.nullcontext()
        session.reset_object()

        def click(x: int, y: int, positive: bool) -> None:
            with around:
                if len(session.clicks) == PER_OBJECT:
                    session.reset_object()
                session.add_click(x, y, positive)

        return click

    def in_a_call(self, way: str) -> tuple[int, int]:
        """Sessions and calls so far."""
        sizes = self.batches.sizes if way == BATCHES else {}
        clicks = {size: n for (name, size), n in sizes.items() if name == "click"}
        return sum(size * n for size, n in clicks.items()), sum(clicks.values())

    def close(self) -> None:
        """Nothing runs."""


class Servers:
    """Users of two servers, each a process of its own."""

    def __init__(self, args: argparse.Namespace):
        self.ways = (ONE, BATCHES)
        self.engine = args.engine
        self._processes, self._ports = {}, {}
        for way, most in ((ONE, 1), (BATCHES, args.batch)):
            command = [sys.executable, "-m", "fdrn_adapter", "serve", "--model", args.model,
                       "--port", "0", "--engine", args.engine, "--batch", str(most)]
            command += ["--crop", str(args.crop)] if args.crop else []
            command += ["--codebase", args.codebase] if args.codebase else []
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._processes[way] = process
            line = process.stdout.readline()
            if " on http://" not in line:
                raise RuntimeError(f"the server did not start: {line!r}, {process.wait(30)}")
            self._ports[way] = int(line.strip().rpartition(":")[2])

    def _ask(self, connection: http.client.HTTPConnection, body: dict) -> dict:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/segment", json.dumps(body), headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {found}")
        return found

    def user(self, way: str, user: User) -> Click:
        """How a user clicks; its image is known to the server."""
        connection = http.client.HTTPConnection("localhost", self._ports[way], timeout=300)
        data = cv2.imencode(".png", user.image[..., ::-1])[1]
        # A click in the corner, which no object has: the image is encoded, and nothing known.
        body = {"image": base64.b64encode(data).decode(), "positive": [[0, 0]], "output": "rle"}
        key, clicks = self._ask(connection, body)["image_key"], []

        def click(x: int, y: int, positive: bool) -> None:
            if len(clicks) == PER_OBJECT:
                clicks.clear()
            clicks.append((x, y, positive))
            self._ask(connection, {
                "image_key": key, "output": "rle", "previous": clicks[:-1],
                **{name: [c[:2] for c in clicks if c[2] == sign]
                   for name, sign in (("positive", True), ("negative", False))},
            })

        return click

    def in_a_call(self, way: str) -> tuple[int, int]:
        """Sessions and calls so far."""
        connection = http.client.HTTPConnection("localhost", self._ports[way], timeout=60)
        connection.request("GET", "/metrics")
        found = {"sum": 0, "count": 0}
        for line in connection.getresponse().read().decode().splitlines():
            for name in found:
                if line.startswith(f'fdrn_batch_sessions_{name}{{call="click"}}'):
                    found[name] = int(line.split()[-1])
        return found["sum"], found["count"]

    def close(self) -> None:
        """Stop the servers."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(120)


# -- timing ----------------------------------------------------------------------------------------


def timed(
    ways: Sessions | Servers, way: str, users: list[User], clicks: int, turn: int
) -> list[float]:
    """Clicks a second of all users, milliseconds of a click (median), sessions in a call."""
    work = [ways.user(way, user) for user in users]
    places = [list(user.places(clicks, len(users), turn)) for user in users]
    here, failed, taken = threading.Barrier(len(users) + 1), [], []

    def run(click: Click, where: list) -> None:
        here.wait()
        try:
            for x, y, positive in where:
                start = time.perf_counter()
                click(x, y, positive)
                taken.append(time.perf_counter() - start)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=one) for one in zip(work, places, strict=True)]
    for thread in threads:
        thread.start()
    before = ways.in_a_call(way)
    here.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if failed:
        raise failed[0]
    sessions, calls = (now - then for now, then in zip(ways.in_a_call(way), before, strict=True))
    return [len(taken) / seconds, statistics.median(taken) * 1e3, sessions / max(1, calls) or 1.0]


def compare(ways: Sessions | Servers, count: int, args: argparse.Namespace) -> None:
    """Print a line for each way that so many users click."""
    users = [User(number) for number in range(count)]
    found: dict[str, list[list[float]]] = {way: [] for way in ways.ways}
    for turn in range(args.warmup + args.rounds):
        order = ways.ways[turn % len(ways.ways):] + ways.ways[: turn % len(ways.ways)]
        for way in order:
            row = timed(ways, way, users, args.clicks, turn)
            if turn >= args.warmup:
                found[way].append(row)
    rates = {way: statistics.median(row[0] for row in rows) for way, rows in found.items()}
    for way, rows in found.items():
        rate, ms, size = (statistics.median(column) for column in zip(*rows, strict=True))
        low, high = min(row[0] for row in rows), max(row[0] for row in rows)
        print(f"{count:5}  {way:14} {rate:8.1f} ({low:.1f} to {high:.1f})  {ms:8.1f}  {size:5.2f}"
              f"  {rate / rates[ONE]:.2f}x", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="distilled-hrnet18s", help="%(default)s")
    parser.add_argument("--codebase", help="checkout, for FocalClick's networks")
    parser.add_argument("--device", default="cpu", help="of the network: cpu, cuda (%(default)s)")
    parser.add_argument("--engine", default="auto", help="%(default)s")
    parser.add_argument("--crop", type=int, help="side in pixels; the network's own by default")
    parser.add_argument("--users", default="1,2,4,8", help="%(default)s")
    parser.add_argument("--threads", type=int, help="of torch and the engine, for each call")
    parser.add_argument("--batch", type=int, default=8, help="sessions in a call (%(default)s)")
    parser.add_argument("--wait-ms", type=float, default=2.0, help="see Batches (%(default)s)")
    parser.add_argument("--clicks", type=int, default=20, help="of a user, a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="%(default)s")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before (%(default)s)")
    parser.add_argument("--http", action="store_true", help="ask servers, see above")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    ways = Servers(args) if args.http else Sessions(args)
    try:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        print(f"{args.model}, engine {ways.engine}; {Machine.here()}; {gpu}")
        print(f"medians of {args.rounds} rounds in turns, each user clicks {args.clicks} times")
        print("users  way             clicks a second (least to most)  ms a click  in a call")
        for count in map(int, args.users.split(",")):
            compare(ways, count, args)
    finally:
        ways.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
