"""SFI and TFI against plain loops over eq. 2 to 4."""

import math

import pytest
import torch
from torch import nn

from fdrn_adapter.features.recycling import affinity
from fdrn_adapter.grafts.integration import (
    ResBlock,
    SemanticFeatureIntegration,
    TextureFeatureIntegration,
)


def loop_affinity(key: torch.Tensor, query: torch.Tensor) -> list[list[float]]:
    """A of eq. 2 and 3 for one sample (Ck, h, w), number by number."""
    k = key.flatten(1).T.tolist()
    q = query.flatten(1).T.tolist()
    n = len(k)
    w = [[sum(a * b for a, b in zip(k[i], q[j], strict=True)) for j in range(n)] for i in range(n)]
    columns = [sum(math.exp(w[m][j]) for m in range(n)) for j in range(n)]
    return [[math.exp(w[i][j]) / columns[j] for j in range(n)] for i in range(n)]


@pytest.mark.parametrize("size", [(3, 3), (2, 5)])
def test_affinity_against_loops(size):
    key, query = torch.randn(2, 6, *size).double(), torch.randn(2, 6, *size).double()
    got = affinity(key, query)
    for b in range(2):
        want = torch.tensor(loop_affinity(key[b], query[b]), dtype=torch.float64)
        assert torch.allclose(got[b], want, atol=1e-12)
    assert torch.allclose(got.sum(1), torch.ones(2, size[0] * size[1]).double())
    assert not torch.allclose(got.sum(2), torch.ones(2, size[0] * size[1]).double())


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, None])
@pytest.mark.parametrize("identity", [False, True])
def test_sfi_against_loops(identity, norm):
    torch.manual_seed(3)
    sfi = SemanticFeatureIntegration(4, identity, norm).double().eval()
    for module in sfi.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    f = torch.rand(1, 4, 3, 4).double()
    weights = torch.tensor(
        [loop_affinity(torch.randn(5, 3, 4).double(), torch.randn(5, 3, 4).double())]
    ).double()
    conv = sfi.conv(f)[0]  # (4, 3, 4)
    x = torch.zeros(4, 3, 4).double()
    for j in range(12):
        for k in range(12):  # eq. 4: X_j = sum_k A_jk Conv(f)_k
            x[:, j // 4, j % 4] += weights[0, j, k] * conv[:, k // 4, k % 4]
    both = torch.cat([x, f[0]])[None]
    block = sfi.block
    want = block.shortcut(both) + block.residual(both)
    if not identity:
        want = want.relu()
    got = sfi(f, weights)
    assert torch.allclose(got, want, atol=1e-12)
    assert torch.equal(got, f) if identity else not torch.allclose(got, f)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, None])
@pytest.mark.parametrize("kernel", [1, 3])
def test_identity_block_keeps_negative_values_and_can_learn(norm, kernel):
    block = ResBlock(6, 10, True, norm, kernel)
    f, x = torch.randn(2, 6, 5, 5), torch.randn(2, 10, 5, 5)
    assert torch.equal(block(x, f), f)
    block(x, f).square().sum().backward()
    assert block.residual[-1].weight.grad.abs().sum() > 0
    assert block.shortcut.weight.grad.abs().sum() > 0


def test_tfi_uses_the_texture():
    tfi = TextureFeatureIntegration(8, 18, False, nn.BatchNorm2d).eval()
    f, texture = torch.rand(1, 8, 6, 7), torch.rand(1, 18, 6, 7)
    out = tfi(f, texture)
    assert out.shape == f.shape
    assert not torch.allclose(out, tfi(f, texture.flip(-1)))


@pytest.mark.parametrize("direction", ["gather", "literal"])
def test_both_directions_of_eq_4_against_loops(direction):
    torch.manual_seed(4)
    channels, values, size = 4, 6, (2, 3)
    sfi = SemanticFeatureIntegration(
        channels, False, nn.BatchNorm2d, values, shortcut_kernel=3, affinity=direction
    ).double().eval()
    f, key = torch.randn(1, channels, *size).double(), torch.randn(1, 5, *size).double()
    a = loop_affinity(key[0], key[0])
    with torch.no_grad():
        v = sfi.conv(f)[0].flatten(1).T.tolist()  # (hw, values)
        n = len(v)
        weight = (lambda j, k: a[j][k]) if direction == "gather" else (lambda j, k: a[k][j])
        x = [[sum(weight(j, k) * v[j][c] for j in range(n)) for k in range(n)]
             for c in range(values)]
        wanted = sfi.block(torch.tensor(x).double().view(1, values, *size), f)
        got = sfi(f, affinity(key, key))
    assert torch.allclose(got, wanted, atol=1e-12)
    # A mean over all places: a constant value arrives as it left. Scattered, it does not.
    sums = [sum(weight(j, k) for j in range(n)) for k in range(n)]
    assert (max(abs(s - 1) for s in sums) < 1e-9) == (direction == "gather")


@pytest.mark.parametrize(("channels", "values"), [(72, 256), (160, 256)])
def test_parameters_by_hand(channels, values):
    """What Table 2 was fitted with: biases everywhere, no norms, every kernel 3x3."""
    def conv(inside, outside):
        return 9 * inside * outside + outside

    sfi = SemanticFeatureIntegration(channels, False, None, values, shortcut_kernel=3)
    both = channels + values
    wanted = conv(channels, values) + 2 * conv(both, channels) + conv(channels, channels)
    assert sum(p.numel() for p in sfi.parameters()) == wanted
