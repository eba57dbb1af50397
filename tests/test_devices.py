"""Where networks run, in which precision, and what happens when memory does not suffice, by the allocator's errors."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pixelviz.config import ConfigError, TrainConfig
from pixelviz.devices import Compute, choose, halving, in_batches, largest_batch, out_of_memory, together
from pixelviz.learning.state import new_run
from pixelviz.learning.steps import Steps
from pixelviz.learning.training import train
from pixelviz.store.checkpoints import Record
from tests.tiny import tiny_config, tiny_images

IMPOSSIBLE = 2**58  # numbers: more than any machine's memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("abacus",), "there is: .*cpu"),
        (("cpu:1",), "not available here"),
        (("cuda:99",), "not available here"),
        (("cuda:-1",), "not available here"),
        (("cpu", "float8"), "auto, float32, float16, bfloat16"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(arguments, message):
    with pytest.raises(ConfigError, match=message):
        choose(*arguments)


def test_compiling_is_for_cuda():
    with pytest.raises(ConfigError, match="Leave --compile out"):
        choose("cpu", compiled=True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_that_of_products_and_not_of_weights(precision):
    compute = choose("cpu", precision)
    layer = compute.place(torch.nn.Conv2d(3, 4, 3))
    with compute.autocast():
        out = layer(compute.images(torch.rand(2, 3, 8, 8)))
    assert str(out.dtype) == f"torch.{precision}"
    assert layer.weight.dtype == torch.float32
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert compute.describe() == f"CPU, {precision}"
    assert compute.scaler().is_enabled() == (precision == "float16")


def test_auto_is_what_this_device_is_fast_in():
    native = any(torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "amx_tile", "avx512_bf16", "bf16"))
    assert choose("cpu").autocast_dtype == (torch.bfloat16 if native else None)
    assert choose("auto").device.type in ("cpu", "cuda", "mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_float32_by_name_is_not_tf32():
    choose("cuda", "float32")
    assert torch.get_float32_matmul_precision() == "highest"
    choose("cuda")
    assert torch.get_float32_matmul_precision() == "high"


def _caught(act):
    try:
        act()
    except BaseException as error:
        return error


def test_real_errors_are_told_apart():
    assert out_of_memory(_caught(lambda: torch.empty(IMPOSSIBLE)))
    assert out_of_memory(_caught(lambda: bytearray(2**60)))
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert not out_of_memory(_caught(lambda: torch.ones(2) @ torch.ones(3)))
    assert not out_of_memory(_caught(lambda: Path("/nowhere/at/all").read_bytes()))
    assert not out_of_memory(KeyboardInterrupt())


def _hungry(limit, tried):
    def run(n):
        tried.append(n)
        if n > limit:
            torch.empty(IMPOSSIBLE)
        return n

    return run


def test_halving_goes_down_until_it_fits():
    tried = []
    assert halving(_hungry(6, tried), 50) == (6, 6)
    assert tried == [50, 25, 12, 6]
    assert largest_batch(_hungry(6, []), 50) == 6
    assert largest_batch(_hungry(0, []), 50) == 0
    assert largest_batch(_hungry(0, []), 1) == 0
    with pytest.raises(RuntimeError, match="memory"):
        halving(_hungry(0, []), 4)
    with pytest.raises(RuntimeError, match=r"shape|size"):
        largest_batch(lambda n: torch.ones(2) @ torch.ones(3), 50)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_training_in_float16_learns_what_float32_learns_and_keeps_its_scale(tmp_path, precision):
    def run(steps, **options):
        settings = TrainConfig(steps=steps, batch=8, parts=("scale_vae",), learning_rate=5e-3)
        return list(train(tiny_images(), tiny_config(), settings, device="cpu", precision=precision, **options))

    losses = [step.losses["scale_vae/log_x_delta"] for step in run(30)]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    run(3, out=tmp_path / "a")
    resumed = run(4, out=tmp_path / "a", resume=True)
    assert [step.step for step in resumed] == [4]


def test_float16_moves_the_weights_as_far_as_float32():
    """Adam's first steps have the size of its rate in any precision, unless the gradient is below its eps."""

    def movement(precision):
        accelerator, compute = together("cpu", precision, False)
        settings = TrainConfig(steps=100, parts=("scale_vae",), batch=8)
        run = new_run(tiny_config(), settings, compute, Record(history=[{"data": "squares", "images_seen": {}}]))
        before = [p.detach().clone() for p in run.model.parameters()]
        steps = Steps(run, tiny_images().images, settings, compute, accelerator)
        for _ in range(4):
            steps.next()
        moved = [now.detach() - old for now, old in zip(run.model.parameters(), before, strict=True)]
        return torch.cat([one.flatten() for one in moved]).square().mean().sqrt().item()

    assert movement("float16") == pytest.approx(movement("float32"), rel=0.05)


SCRIPT = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pixelviz.config import TrainConfig
from pixelviz.learning.training import TrainingError, train
from tests.tiny import tiny_config, tiny_images

out = Path(sys.argv[1])

def run(steps, batch):
    settings = TrainConfig(steps=steps, batch=batch, parts=("scale_vae",))
    return list(train(tiny_images(), tiny_config(), settings, out, resume=out.exists(), device="cpu"))

run(2, 8)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
try:
    run(4, 4096)
except TrainingError as error:
    message = str(error)
fits = int(message.split("A batch of ")[1].split()[0])
print(json.dumps([message, fits, [step.step for step in run(3, fits)]]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process's memory in Linux's way")
def test_a_batch_that_does_not_fit_is_answered_with_one_that_does(tmp_path):
    """In a process with 128 MiB to spare, the allocator fails for real; what was trained goes on after it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")],
        cwd=Path(__file__).parent.parent,
        # What is freed is given back at once: the limit counts addresses, also those that a heap keeps to itself.
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    message, fits, steps = json.loads(done.stdout.splitlines()[-1])
    assert message.startswith("there is not enough memory for a batch of 4096 on CPU")
    assert 256 <= fits < 4096
    assert steps == [3]


def test_one_thread_s_work_is_timed_without_what_runs_beside_it():
    """Waiting stands for other work: the wall's clock counts it, the processor's does not."""
    clock = Compute(torch.device("cpu"), None).clock
    ((_, _, seconds),) = in_batches(lambda *_: time.sleep(0.2), 1, 1, clock=clock)
    assert (seconds < 0.1) == (torch.get_num_threads() == 1)
    assert Compute(torch.device("cuda"), None).clock is time.perf_counter


# Threads that all allocate at once, what they free, and where: glibc's count of its heaps, on stderr.
HEAPS = """
import ctypes, threading
from pathlib import Path
from pixelviz.devices import share_heaps, trim

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def work():
    held = [bytes(5000) for _ in range(2000)]
    here.wait()

share_heaps()
here = threading.Barrier(12)
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
ctypes.CDLL(None).malloc_stats()
held = [bytes(5000) for _ in range(20_000)]
last = bytes(5000)  # at the end of the heap, where glibc alone would cut it
del held
before = resident()
trim()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_threads_share_heaps_and_the_system_gets_back_what_they_free():
    environment = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
    ran = subprocess.run([sys.executable, "-c", HEAPS], env=environment, capture_output=True, text=True, check=True)
    assert 1 <= ran.stderr.count("Arena ") <= 2
    assert float(ran.stdout) > 50  # of 95 MiB that were freed
