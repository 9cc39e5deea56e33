"""One thread, as everywhere on the CPU; a cache of its own for each run."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Two spinning threads can be forty times slower than one."""
    torch.set_num_threads(1)
