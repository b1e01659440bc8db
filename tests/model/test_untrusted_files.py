"""Files of strangers: what they name is not imported, and reading them takes what it may."""

import io
import pickle
import sys
import zipfile

import pytest
import torch
from support.networks import build_host, make_input, make_points

import fdrn_adapter
from fdrn_adapter import CheckpointError, codebase
from fdrn_adapter.weight_files import read_file

HRNET = "ritm_annotation.model.is_hrnet_model.HRNetModel"


def param(value, kind="builtin"):
    return {"type": kind, "value": value, "specified": True}


def stock_config(name=HRNET, **params):
    return {"class": name, "params": params}


def fdrn_config(**params):
    return stock_config("fdrn_adapter.model.FDRNModel",
                        **{k: param(v) for k, v in params.items()})


def load(config, tmp_path, state=None, **options):
    path = tmp_path / "file.pth"
    torch.save({"state_dict": state or {}, "config": config}, path)
    return fdrn_adapter.load(path, **options)


@pytest.fixture
def spy(tmp_path, monkeypatch):
    """A module on sys.path that tells whether it was imported, and whose function was called."""
    folder = tmp_path / "packages"
    (folder / "spy_fork" / "model").mkdir(parents=True)
    (folder / "spy_fork" / "__init__.py").write_text("")
    (folder / "spy_fork" / "model" / "__init__.py").write_text("")
    (folder / "spy_fork" / "model" / "net.py").write_text(
        "from ritm_annotation.model.is_hrnet_model import HRNetModel\n"
        "class call:\n    def __init__(self): raise SystemExit('called')\n"
        "class Net(HRNetModel):\n    pass\n"
    )
    (folder / "spy_fork" / "utils").mkdir()
    (folder / "spy_fork" / "utils" / "__init__.py").write_text("")
    (folder / "spy_fork" / "utils" / "serialization.py").write_text(
        "from ritm_annotation.utils.serialization import *\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield "spy_fork"
    for name in [n for n in sys.modules if n.partition(".")[0] == "spy_fork"]:
        del sys.modules[name]


@pytest.mark.usefixtures("ritm")
@pytest.mark.parametrize("name", [
    "os._exit", "ctypes.string_at", "spy_fork.model.net.Net", "spy_fork.model.net.call",
    "torch.utils.tensorboard.SummaryWriter", "subprocess.Popen", "builtins.eval",
])
def test_files_do_not_decide_what_is_imported(name, spy, tmp_path):
    for config in (
        stock_config(name, log_dir=param(str(tmp_path / "written"))),
        fdrn_config(host=stock_config(name)),
        stock_config(width=param(8), norm_layer=param(name, "class")),
        fdrn_config(host=stock_config(width=param(8), norm_layer=param(name, "class"))),
    ):
        with pytest.raises(CheckpointError, match="not imported") as caught:
            load(config, tmp_path)
        assert name in str(caught.value)
    assert spy not in sys.modules and not (tmp_path / "written").exists()


@pytest.mark.usefixtures("ritm")
@pytest.mark.parametrize("name", [
    "ritm_annotation.utils.serialization.load_model",  # no network
    "ritm_annotation.model.is_hrnet_model.serialize",  # a function
    "ritm_annotation.model.is_hrnet_model.LRMult",  # a class, but no network
    "ritm_annotation.engine.trainer.ISTrainer",
    "isegm.engine.trainer.ISTrainer",
])
def test_of_the_known_packages_only_networks_are_built(name, tmp_path):
    with pytest.raises(CheckpointError, match="no network"):
        load(stock_config(name), tmp_path)


@pytest.fixture
def unpatched():
    """ritm_annotation as it is installed: building networks of the zoo patches it for good."""
    codebase.deactivate(codebase.activate("ritm_annotation"))


@pytest.mark.usefixtures("ritm", "unpatched")
@pytest.mark.parametrize("patched", [False, True])
def test_a_package_of_the_users_trust(patched, spy, tmp_path):
    if patched:  # the fork's loader is the patched one then
        codebase.activate("ritm_annotation")
    host = build_host("tiny")
    config = {**host._config, "class": "spy_fork.model.net.Net"}
    with pytest.raises(CheckpointError, match=r"trust=\['spy_fork'\]"):
        load(config, tmp_path, host.state_dict())
    assert spy not in sys.modules
    loaded = load(config, tmp_path, host.state_dict(), trust=[spy])
    assert type(loaded).__module__ == "spy_fork.model.net"
    with pytest.raises(CheckpointError, match="no network class"):
        load({**config, "class": "spy_fork.model.net.call"}, tmp_path, trust=[spy])
    with pytest.raises(CheckpointError, match="allowed are"):  # it is for that package alone
        load({**config, "params": {"norm_layer": param("os._exit", "class")}}, tmp_path,
             trust=[spy])
    with pytest.raises(ValueError, match="top-level packages"):
        load(config, tmp_path, trust=["a.b"])


@pytest.mark.parametrize("encoder", [
    "timm:hf-hub:stranger/model", "timm:hf_hub:a/b", "timm:local-dir:/tmp/x", "timm:a/b",
    "timm:../x", "onnx:/etc/passwd", "onnx:../x.onnx", 5, "timm:",
])
def test_encoders_out_of_a_hub_or_a_folder(encoder, tmp_path):
    with pytest.raises(CheckpointError, match="neither a hub nor a folder"):
        load(fdrn_config(host=stock_config(width=param(8)), encoder=encoder), tmp_path)


@pytest.mark.parametrize(("config", "message"), [
    (None, "'config' should be a dict"),
    ({"class": HRNET}, "with 'class' and 'params'"),
    ({"class": 3, "params": {}}, "package.module.Name, got 3"),
    ({"class": "HRNetModel", "params": {}}, "package.module.Name"),
    ({"class": HRNET, "params": []}, "'params' should be a dict"),
    (stock_config(width=8), "'type', 'value' and 'specified'"),
    (stock_config(width=param(8, "code")), "'builtin' and 'class'"),
    (stock_config(width=param(torch.zeros(1))), "a Tensor; allowed are texts"),
    (stock_config(width=param([[[[[[[[[[1]]]]]]]]]])), "levels"),
    (stock_config(width=param(list(range(20_000)))), "values or"),
    (fdrn_config(host=None), "with 'class' and 'params', got None"),
    (fdrn_config(host=stock_config(width=param(8)), from_the_future=1), "from_the_future"),
    (fdrn_config(host=stock_config(width=param(8)), context_channels=10**9), "at most 4096"),
])
def test_configs_are_looked_at_before_use(config, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load(config, tmp_path)


@pytest.mark.usefixtures("ritm")
def test_errors_without_words_are_named(tmp_path):
    """As the stock code's assertion that it knows every option."""
    with pytest.raises(CheckpointError, match=r"cannot be built: AssertionError\(\)"):
        load(stock_config(width=param(8), unknown=param(1)), tmp_path)


@pytest.mark.usefixtures("ritm")
def test_a_network_far_larger_than_its_file(tmp_path):
    config = stock_config(width=param(5000), ocr_width=param(48), small=param(True))
    with pytest.raises(CheckpointError, match=r"has .* values, and .* are stored"):
        load(config, tmp_path, {"a": torch.zeros(10)})


@pytest.mark.parametrize(("state", "message"), [
    ([1], "names with tensors"), ({"a": 1}, "names with tensors"),
    ({"a": torch.tensor([1.0, float("nan")])}, "a has NaN or infinity"),
    ({"a": torch.tensor([float("inf")]), "b": torch.tensor([float("nan")])}, "a, b have NaN"),
])
def test_weights_are_names_with_finite_tensors(state, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load(stock_config(), tmp_path, state)


def test_a_tensor_that_claims_more_than_is_stored(tmp_path):
    """80 bytes of file, four terabytes of values."""
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "x.pth")
    torch.save({"a": [torch.eye(3).to_sparse()]}, tmp_path / "y.pth")
    for name in ("x.pth", "y.pth"):
        with pytest.raises(CheckpointError, match="not all stored"):
            read_file(tmp_path / name, "cpu")


def test_a_file_that_unpacks_to_a_thousand_times_its_size(tmp_path):
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"state_dict": {"a": torch.zeros(10**6)}, "config": {}}, plain)
    with zipfile.ZipFile(plain) as old, \
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert packed.stat().st_size < plain.stat().st_size / 100
    with pytest.raises(CheckpointError, match="would unpack to"):
        read_file(packed, "cpu")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_for_half_a_minute(legacy, tmp_path):
    path = tmp_path / "long.pth"
    body = pickle.PROTO + b"\x02" + pickle.MARK + (pickle.EMPTY_TUPLE) * 1_100_000 \
        + pickle.TUPLE + pickle.STOP
    if legacy:
        path.write_bytes(body)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", body)
            archive.writestr("archive/version", "3\n")
    with pytest.raises(CheckpointError, match="more than 1000000 instructions"):
        read_file(path, "cpu")


def test_one_flipped_bit_anywhere_in_the_weights(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"a": torch.arange(1000.0)}, path)
    good = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    start = good.index(torch.arange(1000.0).numpy().tobytes())
    for offset in range(0, entry.file_size, 163):
        damaged = bytearray(good)
        damaged[start + offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="checksum of .*data/0"):
            read_file(path, "cpu")


def test_older_files_than_zips_are_read(tmp_path):
    torch.save({"a": torch.arange(5.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_file(tmp_path / "old.pth", "cpu")["a"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("ritm")
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@torch.no_grad()
def test_weights_of_a_compiled_or_distributed_network(prefix, tmp_path):
    host = build_host("tiny")
    weights = {prefix + name: value for name, value in host.state_dict().items()}
    loaded = load(host._config, tmp_path, weights)
    points = make_points([[30, 40, 0]])
    want, got = (net(make_input(), points)["instances"] for net in (host, loaded))
    assert torch.equal(want, got)


@pytest.mark.usefixtures("ritm", "unpatched")
def test_the_stock_loader_under_fdrn_run(spy, tmp_path, monkeypatch):
    """Without the patch the stock loader imports and calls whatever the file names."""
    from fdrn_adapter.patches import options
    from ritm_annotation.utils import serialization

    evil = stock_config("spy_fork.model.net.call")
    with pytest.raises(SystemExit, match="called"):
        serialization.load_model(evil)
    active = codebase.activate("ritm_annotation")
    try:
        from ritm_annotation.utils import serialization

        for config in (evil, stock_config(width=param(8), norm_layer=param(evil["class"], "class")),
                       fdrn_config(host=evil),
                       fdrn_config(host=build_host("tiny")._config, encoder="timm:hf-hub:a/b")):
            with pytest.raises(CheckpointError):
                serialization.load_model(config)
        host = build_host("tiny")
        assert type(serialization.load_model(host._config)) is type(host)
        monkeypatch.setattr(options.current, "trust_checkpoints", True)
        with pytest.raises(SystemExit, match="called"):
            serialization.load_model(evil)
    finally:
        codebase.deactivate(active)
