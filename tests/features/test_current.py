"""What is recycled now: found by injections, freed with its owner; a new place is one intake."""

import gc
import threading
import weakref

import pytest
import torch
from support.networks import build_host, make_input, make_points
from torch import nn

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.features import current
from fdrn_adapter.features.cache import FeatureCache
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import BranchInjection
from fdrn_adapter.grafts.integration import TextureFeatureIntegration

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0]], [[10, 80, 1]])
BOX = (20, 140, 30, 200)


def wrapped(init="paper", **options):
    return fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", init=init, **options).eval()


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Owner:
    def __init__(self):
        self.recycling_key = current.Key()


def test_contexts_nest_and_end_and_owners_do_not_mix():
    one, other = Owner(), Owner()
    assert current.of(one) is None
    with current.using(one, "a"), current.using(other, "b"):
        with pytest.raises(KeyError), current.using(one, "c"):
            assert current.of(one) == "c" and current.of(other) == "b"
            raise KeyError
        assert current.of(one) == "a"
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(current.of(one)))
        thread.start()
        thread.join()
        assert elsewhere == [None]
    assert current.of(one) is current.of(other) is None


@pytest.mark.parametrize("engine", ["eager", "torch"])
@torch.no_grad()
def test_features_are_freed_without_the_collector(engine, no_collector):
    net = engines.accelerate(wrapped(), engine)
    crop = make_input(96, 96)
    cache = FeatureCache(max_bytes=0)  # keeps the newest alone
    gone = []
    for seed in (0, 1, 2):
        features = net.encode_image(make_input(160, 240, seed=seed)[:, :3])
        with net.recycling(features, [BOX]):
            net(crop, POINTS)
        kept = features.alignments.of(((BOX,), (0,)), [])
        gone.append([weakref.ref(features), weakref.ref(features.maps["key"]), weakref.ref(kept)])
        cache.put((seed,), features)
        del features, kept
    alive = [[ref() is not None for ref in refs] for refs in gone]
    assert alive == [[False] * 3, [False] * 3, [True] * 3]


def features_of(seed, size=(10, 15)):
    generator = torch.Generator().manual_seed(seed)
    maps = {"embedding": torch.randn(1, 6, *size, generator=generator)}
    return ImageFeatures(maps, {"embedding": Grid(16)}, (160, 240), (160, 240), "test")


def test_a_placement_on_encodings_that_are_gone_is_another_one():
    intake = Intake("low", ("embedding",), Grid(16))
    first, second = features_of(0), features_of(1)
    kept = recycle([first, second], [BOX, BOX]).kept
    assert recycle([first, second], [BOX, BOX]).kept is kept
    recycle([first, second], [BOX, BOX]).take(intake, (96, 96))
    del second
    for seed in range(2, 30):  # one of them may get the address of the one that is gone
        another = features_of(seed)
        placed = recycle([first, another], [BOX, BOX])
        assert placed.kept is not kept
        alone = recycle([another], [BOX]).take(intake, (96, 96))
        assert torch.equal(placed.take(intake, (96, 96))[1:], alone)


def test_a_view_after_the_alignment_is_kept_while_its_weights_stay():
    torch.manual_seed(0)
    calls = []
    view = nn.Conv2d(6, 3, 3, padding=1)
    view.register_forward_hook(lambda *args: calls.append(args))
    intake = Intake("low", ("embedding",), Grid(4), view)
    features = features_of(0)
    plain = recycle(features, [BOX]).take(Intake("x", ("embedding",), Grid(4)), (96, 96))

    def taken():
        return recycle(features, [BOX]).take(intake, (96, 96))

    with torch.no_grad():
        first = taken()
        assert first.shape == (1, 3, 24, 24) and torch.equal(first, view(plain))
        calls.clear()
        assert taken() is first and not calls
    learning = taken()  # what was kept has no gradient
    assert len(calls) == 1 and learning.requires_grad
    learning.sum().backward()
    assert view.weight.grad.abs().sum() > 0
    with torch.no_grad():
        view.weight.mul_(2)
        assert (taken() - first).abs().max() > 0.1


class WithThird(nn.Module):
    """F2 of a wrapped network with a third injection: at stride 8, branch 1, of a new map."""

    @staticmethod
    def graft(model):
        intake = Intake("mid", ("embedding",), Grid(8), nn.Conv2d(6, 5, 1))
        channels = model.host.feature_extractor.stage3[0].get_num_inchannels()[1]
        model.mid = TextureFeatureIntegration(channels, 5, False, nn.BatchNorm2d).eval()
        hook = BranchInjection(model.mid, intake, model.recycling_key, 1)
        model.host.feature_extractor.stage3[-1].register_forward_hook(hook)
        model.intakes += (intake,)


@torch.no_grad()
def test_a_third_injection_is_one_intake_in_eager_and_engines():
    model = wrapped()
    before = model.intakes
    WithThird.graft(model)
    features = model.encode_image(make_input(160, 240)[:, :3])
    features.maps["embedding"] = features_of(0).maps["embedding"]
    features.grids = {**features.grids, "embedding": Grid(16)}
    crop = make_input(96, 96)
    results = {}
    for engine in ("eager", "torch"):
        net = engines.accelerate(model, engine)
        with net.recycling(features, [BOX]):
            results[engine] = net(crop, POINTS)["instances"]
    assert (results["eager"] - results["torch"]).abs().max() < 1e-4
    with model.recycling(features, [BOX]):
        features.maps["embedding"] *= -3
        changed = features.to(torch.float32)  # without what is kept
    with model.recycling(changed, [BOX]):
        assert (model(crop, POINTS)["instances"] - results["eager"]).abs().max() > 1e-4
    assert [i.name for i in before] == ["low", "affinity"]
