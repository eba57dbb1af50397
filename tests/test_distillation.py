"""Distilling: one run learns where the closed loop ends, and the closed loop stays what it was."""

import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pixelviz.commands.follow import follow
from pixelviz.config import ConfigError, TrainConfig
from pixelviz.devices import choose
from pixelviz.learning import losses
from pixelviz.learning.distillation import PAIRS, distill, draw_pairs
from pixelviz.learning.training import TrainingError
from pixelviz.process.reverse import x0_from_drift
from pixelviz.progress import Progress
from pixelviz.samplers import STARTS, ImageNoise, draw
from pixelviz.store import checkpoints
from tests.tiny import tiny_config, tiny_images, tiny_model

CPU = choose("cpu", "float32")
SETTINGS = TrainConfig(steps=60, batch=16, learning_rate=3e-3, warmup=5, ema=0.9, pair_share=1.0, heads_per_step=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A checkpoint with random weights: its closed loop ends elsewhere than one run does."""
    folder = tmp_path_factory.mktemp("distil") / "source"
    checkpoints.save(folder, tiny_model(), checkpoints.Record(images_seen={"parallel_unet": 5}))
    return folder


def _ends(folder, sampler, passes, seed=9):
    *_, last = draw(checkpoints.load(folder).model, CPU, n=16, sampler=sampler, passes=passes, seed=seed)
    return last.x


def _later_run(folder, source):
    """How far from the closed loop's end one run ends that begins where its third began; on other starts."""
    model, states = (
        checkpoints.load(folder).model,
        list(draw(checkpoints.load(source).model, CPU, n=16, sampler="rotation", passes=4, seed=9)),
    )
    start = STARTS["consistent"](model, ImageNoise(9, 16))
    i, x = states[2].i, states[2].x
    with torch.inference_mode():
        head = model.step_tensor(math.ceil(i), 1)
        drift = model.parallel_unet(x, start.x_delta, model.step_tensor(i, 16), head, drift=True)[:, 0]
        x0_hat = x0_from_drift(model.schedule, model.rate_x0(start.x_delta), i, x, drift)
    return (x0_hat - states[-1].x.clamp(model.config.floor, 1)).square().mean()


def test_pairs_are_the_closed_loop_s_start_and_end(source):
    loaded = checkpoints.load(source)
    parts = list(draw_pairs(loaded, CPU, 150, passes=3, seed=2))
    assert [len(part.x0) for part in parts] == [128, 22]
    floor = loaded.model.config.floor
    states = list(draw(loaded.model, CPU, n=150, sampler="rotation", passes=3, seed=2))
    x_T, x0 = (torch.cat([getattr(part, name) for part in parts]).float() for name in ("x_T", "x0"))
    torch.testing.assert_close(x_T, states[0].x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(x0, states[-1].x.clamp(floor, 1), rtol=2e-3, atol=2e-3)
    i, x_i = torch.cat([part.i for part in parts]), torch.cat([part.x_i for part in parts]).float()
    assert set(i.tolist()) == {states[1].i, states[2].i}
    for state in states[1:-1]:
        torch.testing.assert_close(x_i[i == state.i], state.x[i == state.i], rtol=2e-3, atol=2e-3)


def test_of_a_single_run_there_is_no_state_on_the_way(source):
    (pairs,) = draw_pairs(checkpoints.load(source), CPU, 4, passes=1)
    assert (pairs.i == tiny_config().T).all()
    assert torch.equal(pairs.x_i, pairs.x_T)


def test_pairs_keep_the_least_scale_there_is():
    model = tiny_model(gamma=20.0, T=40, floor=0.2)
    model.scale_vae.outlet[2].bias.data += 50  # everything white
    (pairs,) = draw_pairs(checkpoints.Checkpoint(model, checkpoints.Record()), CPU, 2, passes=1)
    torch.testing.assert_close(model.rate_x0(pairs.x_delta).max(), torch.tensor(1.0), rtol=1e-3, atol=0)


def test_one_run_comes_nearer_to_the_closed_loop(source, tmp_path):
    """On starts that were not among the pairs."""
    wanted = _ends(source, "rotation", 4)
    floor = tiny_config().floor
    before = (_ends(source, "parallel", 1) - wanted.clamp(floor, 1)).square().mean()
    states = list(
        distill(
            source, tmp_path / "out", tiny_images(), SETTINGS, pairs=64, passes=4, device="cpu", precision="float32"
        )
    )
    assert isinstance(states[0], Progress)
    assert states[-1].step == 60
    after = (_ends(tmp_path / "out", "parallel", 1) - wanted.clamp(floor, 1)).square().mean()
    assert after < before / 2
    assert _later_run(tmp_path / "out", source) < _later_run(source, source) / 2
    loaded = checkpoints.load(tmp_path / "out")
    assert loaded.record.images_seen["parallel_unet"] == 5 + 60 * 16
    assert "64 images of its own closed loop, 4 runs each" in loaded.record.notes[-1]
    assert not (tmp_path / "out" / PAIRS).exists()
    old, new = checkpoints.load(source).model.state_dict(), loaded.model.state_dict()
    changed = {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])}
    assert changed == {"parallel_unet"}


def test_an_interrupted_distillation_goes_on(source, tmp_path):
    out = tmp_path / "out"
    options = {"pairs": 32, "passes": 2, "device": "cpu", "precision": "float32"}
    run = distill(source, out, tiny_images(), SETTINGS, **options)
    for state in run:
        if not isinstance(state, Progress) and state.step == 5:
            break
    run.close()
    assert (out / PAIRS).exists()
    rest = list(distill(source, out, tiny_images(), SETTINGS, **options))
    assert not any(isinstance(state, Progress) for state in rest)  # the pairs are not drawn again
    assert [rest[0].step, rest[-1].step] == [6, 60]


def test_drawn_pairs_outlive_an_interruption(source, tmp_path, monkeypatch):
    monkeypatch.setattr("pixelviz.learning.distillation.BATCH", 8)
    options = {"pairs": 24, "passes": 2, "device": "cpu", "precision": "float32"}
    run = distill(source, tmp_path / "out", tiny_images(), SETTINGS, **options)
    assert next(run).done == 8
    run.close()
    done = [
        state.done
        for state in distill(source, tmp_path / "out", tiny_images(), SETTINGS, **options)
        if isinstance(state, Progress)
    ]
    assert done == [16, 24]


def _asked_to_stop(run, places):
    """A run whose process gets SIGTERM after these of its states."""
    for number, state in enumerate(run, start=1):
        if number in places:
            os.kill(os.getpid(), signal.SIGTERM)
        yield state


@pytest.mark.parametrize("names", [(), ("a", "b")], ids=["plain", "classes"])
def test_interrupted_by_signals_and_resumed_it_is_the_uninterrupted_one(tmp_path, monkeypatch, names):
    """Asked to stop while pairs are drawn, again in the next batch of them, then while R_phi learns: equal bit for bit,
    on one thread, with classes and without.
    """
    monkeypatch.setattr("pixelviz.learning.distillation.BATCH", 8)
    checkpoints.save(tmp_path / "source", tiny_model(classes=names), checkpoints.Record())
    options = {"pairs": 30, "passes": 3, "guidance": 2.0 if names else 1.0, "device": "cpu", "precision": "float32"}
    settings = replace(SETTINGS, steps=9, flips=True)
    images = replace(tiny_images(), labels=torch.arange(24) % 2, classes=names)
    kept = {}

    def go(out, places=()):
        run = distill(tmp_path / "source", tmp_path / out, images, settings, **options)
        follow(_asked_to_stop(run, places))
        run.close()
        if (tmp_path / out / PAIRS).exists():
            kept[out] = load_file(tmp_path / out / PAIRS)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        go("whole")
        go("parts", [1])
        assert len(kept["parts"]["x0"]) == 8
        go("parts", [1])
        assert len(kept["parts"]["x0"]) == 16
        go("parts", [2 + 4])  # two batches of pairs, then four steps
        assert len(kept["parts"]["x0"]) == 30
        assert checkpoints.read_config(tmp_path / "parts")[2].steps == {"parallel_unet": 4}
        go("parts", [2])
        go("parts")
    finally:
        torch.set_num_threads(threads)
    for file in (checkpoints.WEIGHTS, checkpoints.STATE):
        whole, parts = (load_file(tmp_path / out / file) for out in ("whole", "parts"))
        assert set(whole) == set(parts)
        assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []
    before = load_file(tmp_path / "source" / checkpoints.WEIGHTS)
    after = load_file(tmp_path / "parts" / checkpoints.WEIGHTS)
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_another_checkpoint_is_not_distilled_over(source, tmp_path):
    other = tmp_path / "other"
    checkpoints.save(other, tiny_model(1), checkpoints.Record())
    before = (other / checkpoints.WEIGHTS).read_bytes()
    with pytest.raises(checkpoints.CheckpointError, match="already holds a checkpoint"):
        next(distill(source, other, tiny_images(), SETTINGS, pairs=4, passes=2, device="cpu"))
    assert (other / checkpoints.WEIGHTS).read_bytes() == before


def test_images_are_still_learnt_as_they_were(tmp_path):
    record = checkpoints.Record(training={"unet_step_power": 4.0, "deviation": 0.1, "learning_rate": 1.0})
    checkpoints.save(tmp_path / "source", tiny_model(i_min=0.05), record)
    settings = TrainConfig(steps=2, batch=8, learning_rate=1e-3)
    options = {"pairs": 8, "passes": 2, "device": "cpu", "precision": "float32"}
    list(distill(tmp_path / "source", tmp_path / "out", tiny_images(), settings, **options))
    trained = checkpoints.load(tmp_path / "out").record.training
    assert (trained["unet_step_power"], trained["deviation"], trained["learning_rate"]) == (4.0, 0.1, 1e-3)


def test_the_pairs_fill_their_share_of_a_batch():
    config, settings = tiny_config(), TrainConfig(parts=("parallel_unet",), pair_share=0.25)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.full((400, *config.shape), 0.5)
    x_T, x_i, x_delta, end = (torch.full((5, *config.shape), value).half() for value in (3.0, 2.0, 0.125, 0.75))
    pairs = losses.Pairs(x_T, x_i, torch.full((5,), 2.0), x_delta, end)
    draws = losses.draw_step(config, settings, 400, generator)["parallel_unet"]
    mixed, drawn = losses.with_pairs(config, settings, x0, draws, pairs, generator)
    assert drawn.pairs.given.tolist() == [True] * 100 + [False] * 300
    assert (mixed[:100] == 0.75).all()
    assert (mixed[100:] == 0.5).all()
    from_T = drawn.i[:100] == config.T
    assert 30 < from_T.sum() < 70
    assert (drawn.i[:100][~from_T] == 2).all()
    assert (drawn.pairs.x_i[:100][from_T] == 3).all()
    assert (drawn.pairs.x_i[:100][~from_T] == 2).all()
    assert torch.equal(drawn.i[100:], draws.i[100:])
    assert (drawn.heads[:, 0] == drawn.i).all()
    assert (drawn.heads <= drawn.i[:, None]).all()
    assert (drawn.pairs.x_delta[:100] == 0.125).all()


def test_the_loss_of_a_pair_is_the_error_of_its_own_x0():
    """R_phi replaced by the drift that leads from x_T to a known image: 0 for that image's pair, and for no other."""
    model = tiny_model()
    config = model.config
    generator = torch.Generator().manual_seed(0)
    settings = TrainConfig(parts=("parallel_unet",), pair_share=1.0)
    x0 = 0.2 + 0.6 * torch.rand(4, *config.shape, generator=generator)
    x_T, x_delta = torch.randn(x0.shape, generator=generator), torch.exp(-config.gamma * x0.flip(0))
    draws = losses.draw_step(config, settings, 4, generator)["parallel_unet"]
    one = losses.Pairs(x_T[:1], x_T[:1], torch.tensor([float(config.T)]), x_delta[:1], x0[:1])
    mixed, draws = losses.with_pairs(config, settings, x0, draws, one, generator)

    def perfect(x_i, x_delta, i, heads, *, drift, classes=None):
        assert drift
        return ((x_delta.sqrt() * x_i - x0[:1]) / (1 - x_delta))[:, None].expand(-1, heads.shape[1], -1, -1, -1)

    model.parallel_unet.forward = perfect
    assert losses.unet_loss(model, mixed, draws)[0] < 1e-6
    assert losses.unet_loss(model, mixed + 0.1, draws)[0] > 1e-3


def test_what_cannot_be_distilled_is_refused(source, tmp_path):
    with pytest.raises(TrainingError, match="another folder"):
        next(distill(source, source, tiny_images(), SETTINGS))
    with pytest.raises(TrainingError, match="at least 1"):
        next(distill(source, tmp_path / "a", tiny_images(), SETTINGS, pairs=0))
    checkpoints.save(tmp_path / "eps", tiny_model(head_target="eps"), checkpoints.Record())
    with pytest.raises(TrainingError, match="needs v heads"):
        next(distill(tmp_path / "eps", tmp_path / "b", tiny_images(), SETTINGS))
    with pytest.raises(ConfigError, match="pair_share"):
        TrainConfig(pair_share=0.0)
