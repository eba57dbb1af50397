"""Generations, and whose turn it is on the model: the same images as the sampler's, and nobody kept waiting."""

import dataclasses
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelviz.data.sets import from_unit
from pixelviz.devices import choose
from pixelviz.samplers import SAMPLERS, draw
from pixelviz.samplers.parallel import boundaries
from pixelviz.service import generation
from pixelviz.service.generation import Film, Settings
from pixelviz.service.service import Service, ServiceError, friendly
from pixelviz.service.turns import LONG, SHORT, ModelTurn
from pixelviz.view import View
from tests.served import photo, train_tiny
from tests.tiny import tiny_config, tiny_model


def last(steps):
    *_, final = steps
    return final


def anew(service):
    """A service on the same checkpoints that has answered nothing yet."""
    return Service([service.runs.parent / "checkpoints", service.runs], device="cpu")


def test_images_are_those_of_the_sampler(service):
    made = last(service.generate("tiny", 3, 2, "printed", "parallel", 11))
    *_, step = draw(
        service.checkpoint("tiny").model, service.compute, n=3, passes=2, start="printed", sampler="parallel", seed=11
    )
    wanted = from_unit(step.x.float(), tiny_config().floor).permute(0, 2, 3, 1).numpy().astype(int)
    assert made.images.shape == (3, 16, 16, 1)
    assert np.abs(made.images.astype(int) - wanted).max() <= 1
    assert made.network_evaluations == 2


def test_the_copied_command_draws_the_same_images(service):
    settings = (3, 2, "printed", "parallel", 11)
    line = generation.sample_command(service.find("tiny"), *settings)
    _, _, _, command, *options = shlex.split(line.replace("samples.png", "samples.npz"))
    root = service.runs.parent  # where the bundled checkpoints and the runs are
    environment = {**os.environ, "PYTHONPATH": str(Path(generation.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pixelviz", command, *options, "--device", "cpu"],
        cwd=root, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    images = np.load(root / "samples.npz")["images"].astype(float)
    shown = last(service.generate("tiny", *settings)).images.astype(float)
    assert images.shape == shown.shape
    assert np.abs(images * (255 if images.max() <= 1 else 1) - shown).max() <= 1.01


def test_the_same_seed_draws_the_same_images_whatever_n_is(service, monkeypatch):
    five = last(service.generate("tiny", 5, 4, seed=3)).images.astype(int)
    two = last(service.generate("tiny", 2, 4, seed=3)).images.astype(int)
    assert np.array_equal(five[:2], two)
    monkeypatch.setattr("pixelviz.service.generation.lane", lambda images, passes: LONG)
    monkeypatch.setattr("pixelviz.service.generation.MOST_AT_ONCE", 2)
    batches = last(anew(service).generate("tiny", 5, 4, seed=3))
    other = last(service.generate("tiny", 2, 4, seed=4)).images.astype(int)
    assert np.abs(five - batches.images).max() <= 1
    assert "3 batches" in batches.notes[0]
    assert batches.trajectory_steps() == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert np.array_equal(batches.trajectory(4)[-1], batches.images[4])
    assert np.abs(two - other).max() > 10


@pytest.mark.parametrize(("lane", "sizes"), [(SHORT, [8, 4, 2, 2]), (LONG, [7, 3, 3])])
def test_too_little_memory_means_smaller_batches_and_the_same_images(service, monkeypatch, lane, sizes):
    service = anew(service)
    monkeypatch.setattr("pixelviz.service.generation.lane", lambda images, passes: lane)
    plenty = last(service.generate("tiny", 7, 3, seed=3))
    service = anew(service)
    unet = service.checkpoint("tiny").model.parallel_unet
    forward, tried = unet.forward, []

    def hungry(x_i, *others, **options):
        tried.append(len(x_i))
        if len(x_i) > 3:
            torch.empty(2**58)  # the allocator's own error
        return forward(x_i, *others, **options)

    monkeypatch.setattr(unet, "forward", hungry)
    scarce = last(service.generate("tiny", 7, 3, seed=3))
    assert tried[: len(sizes)] == sizes
    assert f"not enough memory for more than {sizes[-1]} at once" in " ".join(scarce.notes)
    assert np.abs(scarce.images.astype(int) - plenty.images).max() <= 1
    assert [i for i, _ in scarce.magnitudes] == [i for i, _ in plenty.magnitudes]
    np.testing.assert_allclose([m for _, m in scarce.magnitudes], [m for _, m in plenty.magnitudes], rtol=0.01)
    monkeypatch.setattr(unet, "forward", lambda *arguments, **options: torch.empty(2**58))
    with pytest.raises(RuntimeError) as caught:
        last(service.generate("tiny", 2, 1))
    assert "not enough memory" in friendly(caught.value)
    with service.turn.short():  # the turn is free again
        pass


@pytest.mark.parametrize("passes", [1, 3, 8])
def test_a_trajectory_runs_from_the_start_to_the_image(service, passes):
    reports = list(service.generate("tiny", 3, passes, seed=1))
    first, final = reports[0], reports[-1]
    assert first.i == 8
    assert first.progress == 0
    assert not first.done
    with pytest.raises(ServiceError):
        _ = first.images
    assert final.done
    assert final.i == 0
    assert final.progress == 1
    assert final.network_evaluations == passes
    film = final.trajectory(2, 4)
    assert film.shape == (4, 16, 16, 1)
    assert np.array_equal(film[-1], final.images[2])
    *_, start = (step for step in draw(service.checkpoint("tiny").model, service.compute, n=3, seed=1) if step.i == 8)
    x_T = start.x[2].float().permute(1, 2, 0).numpy()
    low, high = np.quantile(x_T, 0.01), np.quantile(x_T, 0.99)
    assert np.abs(film[0] / 255 - np.clip((x_T - low) / (high - low), 0, 1)).max() < 0.01
    steps = final.trajectory_steps(4)
    assert steps[0] == 8
    assert steps[-1] == 0
    assert steps == sorted(steps, reverse=True)
    assert final.magnitudes[0] == (8, pytest.approx(start.x.float().square().mean().sqrt().item(), rel=1e-3))
    assert final.seconds > 0
    assert final.seconds_per_image == pytest.approx(final.seconds / 3)
    assert final.closed_loop_seconds > 0


def test_the_closed_loop_is_reckoned_from_one_run_per_image(service, monkeypatch):
    runs = []

    def measured(model, x_T, compute):
        runs.append(one_run(model, x_T, compute))
        return runs[-1]

    one_run = generation._one_run
    monkeypatch.setattr(generation, "_one_run", measured)
    service = anew(service)
    found = last(service.generate("tiny", 3, 2)).closed_loop_seconds
    assert found == 1000 * runs[-1]
    assert last(service.generate("tiny", 4, 2)).closed_loop_seconds == found  # within a minute
    began = time.perf_counter()
    model = service.checkpoint("tiny").model
    whole = one_run(model, torch.zeros(64, 1, 16, 16), service.compute)
    assert 0 < 64 * whole <= time.perf_counter() - began


def test_a_film_of_the_rotation_holds_its_boundaries(service):
    final = last(service.generate("tiny", 3, 4, sampler="rotation", seed=1))
    assert [i for i, _ in final.magnitudes] == boundaries(8, 4)
    film = final.trajectory(0, 8)
    assert film.shape == (5, 16, 16, 1)
    assert all(frame.any() for frame in film)


def test_a_film_has_room_for_states_between_whole_steps():
    config = tiny_config(T=8, i_min=0.5)
    settings = Settings(2, 3).fitting(config)
    model = tiny_model(T=8, i_min=0.5)
    drawn = [step.i for step in draw(model, choose("cpu"), **dataclasses.asdict(settings))]
    assert SAMPLERS[settings.sampler].states(config, settings.passes) == drawn
    assert len(drawn) == 11


def test_a_long_film_keeps_a_bounded_number_of_frames():
    film = Film(tiny_config(T=200), 256, list(range(200, -1, -1)))
    assert 20 < len(film.steps) <= 49
    assert film.steps[0] == 200
    assert film.steps[-1] == 0
    assert len([i for i in film.steps if i <= 25]) >= len(film.steps) // 3  # an eighth of the way: where detail appears
    assert len(set(film.steps)) == len(film.steps)


def test_what_is_not_finite_is_shown_as_black_or_white_and_told():
    film, x = Film(tiny_config(), 3, list(range(8, -1, -1))), torch.zeros(3, 1, 16, 16)
    x[0], x[1], x[2] = math.inf, math.nan, -math.inf
    film.record(8, 0, x)
    film.record(0, 0, torch.full((3, 1, 16, 16), 3.0))
    assert [film.of(k, [0]).max() for k in range(3)] == [255, 0, 0]
    assert film.magnitudes()[1] == (0, pytest.approx(3.0))
    assert not math.isfinite(film.magnitudes()[0][1])


def test_the_printed_sampler_runs_too(service):
    made = last(service.generate("tiny", 2, 1, "consistent", "printed", 0))
    assert made.network_evaluations == 1
    assert len(made.magnitudes) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n must be a whole number from 1 to 256"),
        ({"n": 257}, "n must be"),
        ({"n": 2.5}, "n must be"),
        ({"n": "4"}, "n must be"),
        ({"passes": 0}, "passes must be a whole number from 1 to 8"),
        ({"passes": 9}, "passes must be a whole number from 1 to 8"),
        ({"passes": math.nan}, "passes"),
        ({"start": "somewhere"}, "start must be one of consistent, printed"),
        ({"start": None}, "start"),
        ({"sampler": "ddim++"}, "sampler must be one of"),
        ({"sampler": ["parallel"]}, "sampler must be one of"),
        ({"sampler": "printed", "passes": 2}, "one pass"),
        ({"seed": -5}, "seed must be"),
        ({"seed": 10**30}, "seed must be"),
        ({"name": "/etc"}, "there is no checkpoint"),
        ({"name": "x" * 10_000}, "there is no checkpoint"),
    ],
)
def test_bad_input_to_generate_is_refused_before_the_first_step(service, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        service.generate(**{"name": "tiny", "n": 1, **changes})
    assert len(str(caught.value)) < 300


def test_a_checkpoint_without_the_part_says_so(service, empty):
    train_tiny(empty.runs / "only-scale", parts=("scale_vae",))
    with pytest.raises(ValueError, match="no parallel_unet"):
        empty.generate("only-scale", 1)
    assert empty.scale("only-scale", View.of(photo()), 4).twin_x0_hat is None
    with pytest.raises(ServiceError, match="no twin"):
        empty.scale("only-scale", View.of(photo()), 4).picture("twin_x0_hat")


# --- the turn


def test_a_suspended_or_closed_generation_keeps_nobody_from_the_model(service):
    suspended = service.generate("tiny", 40, 8)
    next(suspended)
    assert last(service.generate("tiny", 1)).done
    suspended.close()
    with pytest.raises(StopIteration):
        next(suspended)
    took = []
    thread = threading.Thread(target=lambda: took.append(_take(service.turn.long)))
    thread.start()
    thread.join(10)
    assert took
    assert took[0] < service.turn.patience


def _take(kind):
    began = time.monotonic()
    with kind():
        return time.monotonic() - began


def test_one_computation_at_a_time():
    turn = ModelTurn(patience=0.05)
    inside, most = [0], [0]

    def work(kind):
        for _ in range(20):
            with kind():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=(kind,)) for kind in (turn.short, turn.long) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1]
    assert not any(thread.is_alive() for thread in threads)


def _one_after_the_other(turn, lanes):
    """In which order these lanes' work is done that all waits while a first one is busy; they come in this order."""
    done, threads = [], []

    def work(lane):
        with getattr(turn, lane)():
            done.append(lane)

    with turn.short():
        for lane in lanes:
            threads.append(threading.Thread(target=work, args=(lane,)))
            threads[-1].start()
            while sum(map(len, turn._waiting.values())) < len(threads):
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    return done


def test_short_work_goes_before_long_but_not_for_ever():
    patient, impatient = ModelTurn(patience=60), ModelTurn(patience=0)
    for turn in (patient, impatient):
        _take(turn.long)  # its last step was now
    assert _one_after_the_other(patient, ["long", "short", "long", "short"]) == ["short", "short", "long", "long"]
    assert _one_after_the_other(impatient, ["short", "long", "short"]) == ["long", "short", "short"]


def test_whose_work_is_done_by_another_waits_no_longer():
    turn = ModelTurn()
    with turn.short(), turn.short(lambda: True) as mine:
        assert mine is False
    assert _take(turn.short) < 1


def test_an_error_inside_frees_the_turn():
    turn = ModelTurn()
    for kind in (turn.short, turn.long):
        with pytest.raises(RuntimeError), kind():
            raise RuntimeError
    assert _take(turn.short) < 1


def test_passes_as_typed():
    assert generation.parse_passes(" 5 ") == 5
    with pytest.raises(ServiceError, match="whole number"):
        generation.parse_passes("many")


def test_an_error_of_the_start_grows_by_every_step_of_the_printed_recursion(service):
    """Line by line: each step from i to i-1 divides by sqrt(alpha), which is e^(-gamma x0 / T)."""
    *_, made = service.generate("tiny", 1, sampler="printed")
    config = tiny_config()
    schedule = service.checkpoint("tiny").model.schedule
    for x0 in (0.5, 1.0):
        grown = made.amplification(schedule, x0)
        for (i, _), found in zip(made.magnitudes, grown, strict=True):
            wanted = math.prod([math.exp(-config.gamma * x0 / config.T) ** -0.5] * int(config.T - i))
            assert found == pytest.approx(wanted)
    assert made.times_faster == made.closed_loop_seconds / made.seconds_per_image
