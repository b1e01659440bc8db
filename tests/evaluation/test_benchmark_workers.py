"""A benchmark in processes and on Ray: the results of a serial one, to the last bit."""

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import time

import pytest
from support.evaluation_data import arguments, checkpoints, grabcut, run
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter import cli
from fdrn_adapter.evaluation import benchmark, plan, runner, tasks
from fdrn_adapter.evaluation.methods.method import Built
from fdrn_adapter.evaluation.reports import report

SAMPLES = 6
TIMES = {"encode_ms", "click_ms", "click_p95_ms", "first_click_ms", "total_ms", "average_ms",
         "spc_s", "seconds", "object_ms", "object_alone_ms"}
OF_THE_PROCESS = {"peak_memory_mb", "timed"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """stock.pth and fdrn.pth, which follow the pictures; a GrabCut with one bad sample."""
    pytest.importorskip("ritm_annotation")
    root = checkpoints(tmp_path_factory.mktemp("workers"))
    grabcut(root / "GrabCut", SAMPLES)
    (root / "GrabCut" / "data_GT" / "p2.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def given(files, tmp_path):
    return {"models": f"{files / 'stock.pth'},ours={files / 'fdrn.pth'}", "clicks": 3,
            "eval_mode": "fixed64", "threads": 1, "datasets": f"GrabCut={files / 'GrabCut'}",
            "out": tmp_path / "out"}


@pytest.fixture
def serial(given, tmp_path):
    """What a serial run of `given` finds, without times."""
    def found(**more):
        return without_times(run(**{**given, **more, "out": tmp_path / "serial"}))

    return found


def without_times(found: dict) -> list:
    left_out = TIMES | OF_THE_PROCESS
    runs = [{k: v for k, v in r.items() if k not in left_out} for r in found["runs"]]
    for r in runs:
        r["samples"] = [{k: v for k, v in s.items() if k not in ("ms", "encode_ms")}
                        for s in r["samples"]]
    return json.loads(json.dumps(runs))


class Bar:
    """A progress bar that calls a function once so many results are in."""

    def __init__(self, number: int, then):
        self.number, self.then, self.done = number, then, 0

    @contextlib.contextmanager
    def __call__(self, total, what, unit):
        self.total = total
        yield self.more

    def more(self, steps):
        before, self.done = self.done, self.done + steps
        if before < self.number <= self.done:
            self.then()


def run_with(bar: Bar, **given) -> dict:
    return benchmark.run(plan.plan_of(arguments(**given)), bar).found


def test_jobs_change_no_bit_and_leave_times_out(given, serial):
    protocols = "noc,misleading,multi"
    found = run(**given, protocol=protocols, jobs=2)
    assert without_times(found) == serial(protocol=protocols)
    assert len(found["runs"]) == 6 and found["runs"][0]["miou_by_click"][0] > 0.1
    for r in found["runs"]:
        assert r["n_samples"] == SAMPLES - 1 and [s["id"] for s in r["skipped"]] == ["p2"]
        assert r["timed"] is False and r["threads"] == 1 and not TIMES & set(r)
        assert not any("ms" in s or "encode_ms" in s for s in r["samples"])
    text = report.terminal_table(found)
    assert "times are left out" in text and "SPC" not in text


@pytest.mark.slow
def test_a_killed_process_changes_no_bit(given, serial, caplog):
    killed = []

    def kill():
        killed.append(multiprocessing.active_children()[0].pid)
        os.kill(killed[0], signal.SIGKILL)

    bar = Bar(2, kill)
    found = run_with(bar, **given, jobs=2)
    assert killed and "A worker process was lost" in caplog.text
    assert without_times(found) == serial() and bar.done == bar.total == 2 * SAMPLES


@pytest.mark.slow
def test_interrupted_in_processes_and_gone_on_with_here(given, serial, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_with(Bar(2, interrupt), **given, jobs=2)
    lines = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    assert 3 <= len(lines) < 2 * SAMPLES and not multiprocessing.active_children()
    found = run(**given, resume=True)
    assert without_times(found) == serial()
    assert not TIMES & set(found["runs"][0])  # some of its samples ran beside others


def test_protocols_that_are_there_for_their_times_are_refused(given, capsys):
    for protocol in ("speed", "long", "noc,long"):
        for how in (("--jobs", "2"), ("--ray",)):
            words = ["benchmark", "--protocol", protocol, *how]
            for name, value in given.items():
                words += ["--" + name.replace("_", "-"), str(value)]
            assert cli.main(words) == 2
            err = capsys.readouterr().err
            assert f"--protocol {protocol.removeprefix('noc,')} measures times" in err
    assert not given["out"].exists()


def test_workers_have_one_thread_unless_told(given):
    given = {key: value for key, value in given.items() if key != "threads"}
    alone = plan.plan_of(arguments(**given))
    assert alone.options.threads is None and alone.workers.here
    there = plan.plan_of(arguments(**given, jobs=2))
    assert there.options.threads == there.workers.threads == 1
    assert plan.plan_of(arguments(**given, jobs=2, threads=3)).workers.threads == 3


# -- errors name the sample --------------------------------------------------------------------


class Fails:
    name = "bad"

    def set_image(self, image):
        raise ZeroDivisionError("in the network")


def test_a_failure_names_sample_and_model(given):
    chosen = plan.plan_of(arguments(**given))
    models = [Built(chosen.specs[0], Fails())]
    evaluation = runner.Evaluation(
        chosen.units, chosen.settings, chosen.specs[:1], chosen.options, models
    )
    task = tasks.waiting(chosen.units, ["stock"], [])[1]
    text = r"GrabCut p1 \(protocol noc\), model stock: ZeroDivisionError: in the network"
    with pytest.raises(runner.SampleError, match=text) as caught:
        evaluation(task)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # out of a worker


def test_a_worker_wants_the_same_files(given, files, tmp_path):
    copy = tmp_path / "net.pth"
    copy.write_bytes((files / "stock.pth").read_bytes())
    chosen = plan.plan_of(arguments(**{**given, "models": str(copy)}))
    evaluation = runner.Evaluation(
        chosen.units, chosen.settings, chosen.specs, chosen.options
    )
    fdrn_adapter.save(build_host(), copy)
    with pytest.raises(ValueError, match="net.pth on .* is another file than where"):
        pickle.loads(pickle.dumps(evaluation))(tasks.waiting(chosen.units, ["net"], [])[0])


# -- Ray ---------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch):
    """Three machines of one processor each, in processes of this one."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=small)
    made.add_node(**small)
    made.add_node(**small)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_changes_no_bit(given, serial, cluster, tmp_path):
    import ray

    root = grabcut(tmp_path / "G", 100)
    given = {**given, "datasets": f"GrabCut={root}"}
    at_work = []

    def remove():
        end = time.monotonic() + 60
        while ray.available_resources().get("CPU", 0) and time.monotonic() < end:
            time.sleep(0.1)
        at_work.append(3 - ray.available_resources().get("CPU", 0))
        cluster.remove_node(list(cluster.worker_nodes)[0], allow_graceful=False)

    bar = Bar(2 * 40, remove)
    found = run_with(bar, **given, ray=cluster.address)
    assert at_work == [3] and bar.done == bar.total == 200
    assert not ray.is_initialized()  # it was joined for the benchmark alone
    assert found["runs"][0]["n_samples"] == 100
    assert without_times(found) == serial(datasets=f"GrabCut={root}")
