"""The OCR head of HRNet for one class, computed with a third of the multiplications.

With one class three things of the stock head are exact no-ops or can change places:

- the softmax over classes is 1, so every pixel gets the same context vector: the query branch is
  never needed, and the context enters its 1x1 convolution as a bias;
- a 1x1 convolution and bilinear upsampling commute, so the auxiliary head's first layer runs on
  the branches before they are upsampled;
- so does each tap of the 3x3 convolution: y = sum_k S_k U (W_k x), where U upsamples and S_k
  shifts by one cell and fills with zeros. W_k x is a 1x1 convolution at the branch's own stride,
  and S_k U = (S_dy U_rows) x (S_dx U_cols) are two small matrices. This pays for branches of
  stride 16 and 32; those of stride 4 and 8 stay in a plain convolution.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.engines.rewrites import affine_of, upsampling_matrix
from fdrn_adapter.features.roi import cells

DIRECT = 2  # branches (of stride 4 and 8) that are concatenated as in the stock network


def fits(backbone: nn.Module) -> bool:
    """Whether a backbone ends in the stock OCR head with one class."""
    try:
        conv3, aux = backbone.conv3x3_ocr, backbone.aux_head
        block = backbone.ocr_distri_head.object_context_block
        return (
            backbone.ocr_gather_head.cls_num == 1 and block.scale == 1
            and backbone.align_corners is True
            and conv3[0].kernel_size == (3, 3) and conv3[0].padding == (1, 1)
            and isinstance(conv3[1], nn.BatchNorm2d) and isinstance(aux[1], nn.BatchNorm2d)
            and aux[0].kernel_size == (1, 1) and aux[3].out_channels == 1
            and backbone.ocr_distri_head.conv_bn_dropout[0].kernel_size == (1, 1)
            and isinstance(backbone.ocr_distri_head.conv_bn_dropout[1][0], nn.BatchNorm2d)
            and len(backbone.stage4[-1].get_num_inchannels()) == 4
        )
    except (AttributeError, IndexError, TypeError):
        return False


class OCRHead(nn.Module):
    """Stands in for everything after the branches of stage 4.

    Args:
        backbone: a stock HRNet, in eval mode, before its batch norms are folded.
        size: rows and columns of the map at stride 4, which fixes the matrices; None for any
            size: then the branches are upsampled and concatenated as in the stock network.
    """

    @torch.no_grad()
    def __init__(self, backbone: nn.Module, size: tuple[int, int] | None):
        super().__init__()
        self.size = size
        self.gather_scale = backbone.ocr_gather_head.scale
        self.cls_head, self.aux_last = backbone.cls_head, backbone.aux_head[3]
        block = backbone.ocr_distri_head.object_context_block
        self.f_down, self.f_up = block.f_down, block.f_up
        distribution = backbone.ocr_distri_head.conv_bn_dropout
        weight, bias = _folded(distribution[0], distribution[1][0])
        # conv1x1(cat(context, feats)), one product for each of both parts
        of_context, of_feats = weight.chunk(2, dim=1)
        self.from_context, self.from_feats = _conv(of_context, bias), _conv(of_feats, None)

        ocr, ocr_bias = _folded(backbone.conv3x3_ocr[0], backbone.conv3x3_ocr[1])
        aux, aux_bias = _folded(backbone.aux_head[0], backbone.aux_head[1])
        channels = list(backbone.stage4[-1].get_num_inchannels())
        direct = len(channels) if size is None else DIRECT
        self.direct = direct
        near = sum(channels[:direct])
        self.ocr_near = _conv(ocr[:, :near], ocr_bias)
        self.aux_near = _conv(aux[:, :near], aux_bias)
        self.ocr_far, self.aux_far = nn.ModuleList(), nn.ModuleList()
        for part, aux_part in zip(ocr.split(channels, 1)[direct:], aux.split(channels, 1)[direct:],
                                  strict=True):
            taps = part.permute(0, 2, 3, 1).flatten(0, 2)  # (C * 3 * 3, C_i)
            self.ocr_far.append(_conv(taps[..., None, None], None))
            self.aux_far.append(_conv(aux_part, None))
        if size is not None:
            self._make_matrices(size, len(channels))

    def _make_matrices(self, size: tuple[int, int], branches: int) -> None:
        rows, shifted_rows = [], []
        for i in range(DIRECT, branches):
            h, w = (cells(side, 2**i) for side in size)
            up = [upsampling_matrix(n, side) for n, side in ((h, size[0]), (w, size[1]))]
            rows.append(up[0])
            shifted_rows += _shifted(up[0])
            self.register_buffer(f"cols{i}", up[1].T.contiguous(), persistent=False)
            self.register_buffer(
                f"shifted_cols{i}", torch.cat(_shifted(up[1]), 1).T.contiguous(), persistent=False
            )
        self.register_buffer("rows", torch.cat(rows, 1), persistent=False)
        self.register_buffer("shifted_rows", torch.cat(shifted_rows, 1), persistent=False)

    def forward(self, branches: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of branches of stage 4 -> logits, auxiliary logits and features at stride 4."""
        size = branches[0].shape[2:]
        near = torch.cat([branches[0]] + [
            F.interpolate(x, size=size, mode="bilinear", align_corners=True)
            for x in branches[1 : self.direct]
        ], dim=1)
        feats, aux = self.ocr_near(near), self.aux_near(near)
        if self.size is not None:
            feats = feats + self._far_ocr(branches)
            aux = aux + self._far_aux(branches)
        aux = self.aux_last(F.relu(aux))
        feats = F.relu(feats)  # (B, C, h, w)
        context = self.from_context(self.f_up(self.f_down(self._gather(feats, aux))))
        feats = F.relu(self.from_feats(feats) + context)
        return self.cls_head(feats), aux, feats

    def _gather(self, feats: Tensor, aux: Tensor) -> Tensor:
        """(B, C, 1, 1): features averaged over the softmax of the auxiliary logits."""
        share = torch.softmax(self.gather_scale * aux.flatten(2), dim=2)  # (B, 1, hw)
        return (feats.flatten(2) @ share.transpose(1, 2))[..., None]

    def _far_ocr(self, branches: list[Tensor]) -> Tensor:
        columns = []
        for i, conv in enumerate(self.ocr_far, DIRECT):
            z = conv(branches[i])  # (B, C * 3 * 3, h, w)
            b, c, h, w = (int(n) for n in z.shape)
            z = z.view(b, c // 3, 3, h, w).transpose(2, 3).reshape(b, c // 3, h, 3 * w)
            y = z @ getattr(self, f"shifted_cols{i}")  # (B, C * 3, h, W)
            columns.append(y.view(b, c // 9, 3 * h, self.size[1]))
        return self.shifted_rows @ torch.cat(columns, dim=2)

    def _far_aux(self, branches: list[Tensor]) -> Tensor:
        columns = [
            conv(branches[i]) @ getattr(self, f"cols{i}")
            for i, conv in enumerate(self.aux_far, DIRECT)
        ]
        return self.rows @ torch.cat(columns, dim=2)


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias in float64 of norm(conv(x)) as one convolution."""
    scale, shift = affine_of(norm)
    bias = 0 if conv.bias is None else conv.bias.double() * scale
    return conv.weight.double() * scale.view(-1, 1, 1, 1), shift + bias


def _conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution with these weights (O, I, k, k) and same size of output."""
    out_channels, in_channels, k, _ = weight.shape
    conv = nn.Conv2d(in_channels, out_channels, k, padding=k // 2, bias=bias is not None)
    conv.weight.copy_(weight)
    if bias is not None:
        conv.bias.copy_(bias)
    return conv


def _shifted(up: Tensor) -> list[Tensor]:
    """Rows of `up` as a 3-tap convolution with zero padding sees them: row y + d, d = -1, 0, 1."""
    padded = F.pad(up, (0, 0, 1, 1))
    return [padded[d : d + len(up)] for d in range(3)]
