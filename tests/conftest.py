"""Fixtures shared by all tests."""

import os
import signal
import warnings

import pytest
import torch

warnings.filterwarnings("ignore", message="torch.meshgrid")


# One thread: the networks here are small, and on two busy cores OpenMP's waiting threads cost ten
# times what they bring.
torch.set_num_threads(1)

# Background shells ignore Ctrl-C, and programs started from here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Sessions run the networks as they are, unless a test asks for an engine: engines compile, which
# takes seconds per network, and differ in the last bits.
os.environ["FDRN_ENGINE"] = "eager"
os.environ["FDRN_CACHE"] = "off"  # what is compiled is compiled here, and stays out of the home


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def device() -> torch.device:
    """Where tests of devices run: FDRN_TEST_DEVICE, by default the CPU."""
    return torch.device(os.environ.get("FDRN_TEST_DEVICE", "cpu"))


@pytest.fixture
def gpu(device) -> torch.device:
    """A device for what only a GPU can do; a visible skip without one."""
    if device.type != "cuda":
        pytest.skip("needs a GPU: set FDRN_TEST_DEVICE=cuda")
    return device


@pytest.fixture
def ritm():
    """The PyPI build of RITM; tests that use it are skipped where its wheel does not exist."""
    return pytest.importorskip("ritm_annotation")
