"""The names of our own engines, for `--help`, which does not wait for torch."""

# From the slowest to the fastest (README, Time); the last one is for GPUs.
CUDA = "cuda"
NAMES = ("eager", "torch", "onnxruntime", "openvino", CUDA)
