"""What several test files share."""

import numpy as np
import pytest
import torch

from tests.served import empty_service, tiny_service

# Beside other work, several threads on small tensors only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with one tiny trained checkpoint."""
    return tiny_service(tmp_path_factory.mktemp("service"))


@pytest.fixture
def empty(tmp_path):
    """A service that finds no checkpoint."""
    return empty_service(tmp_path)


@pytest.fixture
def rng():
    """The same numbers in every test."""
    return np.random.default_rng(0)
