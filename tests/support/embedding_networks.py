"""Light FDRNs on embeddings."""

from pathlib import Path

import pytest

import fdrn_adapter
from support import sam_graphs
from support.networks import build_host


def write_embedding_fdrn(folder: Path, name: str) -> Path:
    """A light FDRN on embeddings of a small graph, as checkpoint `name`; the graph's file."""
    pytest.importorskip("onnxruntime")
    file = sam_graphs.embedder(folder / "encoder.onnx")
    model = fdrn_adapter.wrap(
        build_host(), encoder=f"onnx:{file}", init="paper", affinity="gather", context_channels=8,
        value_channels=8,
    )
    fdrn_adapter.save(model, folder / name)
    return file
