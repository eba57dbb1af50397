"""What several test files share."""

import multiprocessing

import numpy as np
import pytest
import torch

from pixelviz.config import PRESETS
from pixelviz.data.sets import Origin
from pixelviz.service import jobs
from pixelviz.service.worker import work
from pixelviz.store import checkpoints
from tests.browser import launched, served
from tests.served import empty_service, tiny_service
from tests.tiny import TINY, tiny_model

# Beside other work, several threads on small tensors only wait for each other.
torch.set_num_threads(1)
# Trainings in processes that have imported torch already: a spawned one takes seconds for that.
if "forkserver" in multiprocessing.get_all_start_methods():
    multiprocessing.set_forkserver_preload([work.__module__, "accelerate"])
    jobs.START = "forkserver"


@pytest.fixture(autouse=True)
def same_start():
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with one tiny trained checkpoint."""
    return tiny_service(tmp_path_factory.mktemp("service"))


@pytest.fixture
def empty(tmp_path):
    """A service that finds no checkpoint."""
    return empty_service(tmp_path)


@pytest.fixture
def tiny_preset():
    """A preset "tiny" beside the others."""
    with PRESETS.extended(TINY) as row:
        yield row


@pytest.fixture
def rng():
    """The same numbers in every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def browser():
    """A browser; not for longer than a module, for Playwright keeps an event loop running as long as it is open."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server with one tiny checkpoint and an empty folder for runs."""
    folder = tmp_path_factory.mktemp("app")
    model = tiny_model()
    record = checkpoints.Record(
        data=Origin(title="squares"),
        steps=dict.fromkeys(model.parts, 3),
        figures={"ssim_x_delta": {"1": 0.5, "8": 0.25}, "ssim_alpha_bar": {"1": 0.6, "8": 0.3}},
    )
    checkpoints.save(folder / "checkpoints" / "tiny", model, record)
    with served(folder) as address:
        yield address
