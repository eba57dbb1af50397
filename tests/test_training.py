"""Training, checkpoints and evaluation on the smallest real model."""

import json
import math
import pathlib
import shutil
import weakref
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from pixelviz.config import ConfigError, TrainConfig
from pixelviz.devices import Compute, choose
from pixelviz.learning import state, training
from pixelviz.learning import steps as optimiser_steps
from pixelviz.learning.prior import fit_prior
from pixelviz.measure import evaluation
from pixelviz.measure.judges import Reference
from pixelviz.measure.metrics import features_of, ssim, statistics_of
from pixelviz.process.schedules import image_scale
from pixelviz.samplers import SampleStep
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CheckpointError
from tests.tiny import tiny_config, tiny_images, tiny_model

FAST = {"batch": 8, "heads_per_step": 3}


def _train(out, steps, **changes):
    resume = changes.pop("resume", False)
    config = changes.pop("config", tiny_config())
    run = training.train(
        tiny_images(), config, TrainConfig(steps=steps, **{**FAST, **changes}), out, resume=resume, device="cpu"
    )
    return list(run)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint folder after four steps."""
    out = tmp_path_factory.mktemp("run") / "tiny"
    _train(out, 4)
    return out


def test_losses_fall():
    steps = _train(None, 60, learning_rate=5e-3, parts=("scale_vae", "parallel_unet"))
    for key in ("scale_vae/log_x_delta", "parallel_unet/head_i"):
        first = sum(s.losses[key] for s in steps[:10])
        assert sum(s.losses[key] for s in steps[-10:]) < 0.7 * first


def test_steps_carry_what_a_screen_shows():
    steps = _train(None, 3)
    assert [s.step for s in steps] == [1, 2, 3]
    assert steps[-1].eta_seconds == 0
    assert all(s.images_per_second > 0 for s in steps)
    assert steps[0].preview.shape == (3, 8, 1, 16, 16)
    assert steps[-1].preview.dtype == torch.uint8
    assert {k.split("/")[0] for k in steps[0].losses} == {"scale_vae", "twin", "parallel_unet"}


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    straight = _train(tmp_path / "a", 6, ema=0.5)
    run = training.train(
        tiny_images(), tiny_config(), TrainConfig(steps=6, ema=0.5, **FAST), tmp_path / "b", device="cpu"
    )
    for _ in range(3):
        next(run)
    run.close()
    resumed = _train(tmp_path / "b", 6, ema=0.5, resume=True)
    assert [s.step for s in resumed] == [4, 5, 6]
    for key, value in straight[-1].losses.items():
        assert resumed[-1].losses[key] == pytest.approx(value, rel=1e-4), key
    one, two = (load_file(tmp_path / name / checkpoints.WEIGHTS) for name in "ab")
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-4, msg=key)
    record = checkpoints.load(tmp_path / "b").record
    assert record.steps["parallel_unet"] == 6
    assert record.images_seen["scale_vae"] == 48


def test_one_part_can_be_trained_on_another_run_s_parts(tmp_path):
    _train(tmp_path / "r", 2, parts=("scale_vae",))
    before = load_file(tmp_path / "r" / checkpoints.WEIGHTS)
    _train(tmp_path / "r", 3, parts=("parallel_unet",), resume=True)
    loaded = checkpoints.load(tmp_path / "r")
    after = load_file(tmp_path / "r" / checkpoints.WEIGHTS)
    assert loaded.model.parts == ("scale_vae", "parallel_unet")
    assert loaded.record.steps == {"scale_vae": 2, "parallel_unet": 3}
    for key in before:
        assert torch.equal(before[key], after[key]), key
    with pytest.raises(training.TrainingError, match="scale_vae too"):
        _train(None, 2, parts=("parallel_unet",))


def test_epochs_visit_every_image_once():
    seen = torch.cat([optimiser_steps.batches(24, 8, 0, step) for step in range(6)])
    assert sorted(seen[:24].tolist()) == list(range(24))
    assert sorted(seen[24:].tolist()) == list(range(24))
    assert seen[:24].tolist() != seen[24:].tolist()


def test_learning_rate_warms_up_and_falls():
    config = TrainConfig(steps=100, learning_rate=0.1)
    rates = [optimiser_steps.learning_rate(config, s) for s in range(100)]
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates[-1] == pytest.approx(0.005, rel=0.2)


def test_divergence_stops_with_advice_and_never_reaches_the_checkpoint(tmp_path):
    _train(tmp_path / "d", 2, parts=("scale_vae",))
    with pytest.raises(training.TrainingError, match="lower the learning rate"):
        _train(tmp_path / "d", 40, resume=True, kl_weight=1e30, parts=("scale_vae",))
    assert checkpoints.load(tmp_path / "d").record.steps["scale_vae"] >= 2


def test_a_folder_is_never_overwritten_by_a_new_run(trained):
    with pytest.raises(training.TrainingError, match="already holds"):
        _train(trained, 2)
    with pytest.raises(training.TrainingError, match="4 steps already"):
        _train(trained, 4, resume=True)


def test_images_of_another_size_are_refused(tmp_path):
    run = training.train(tiny_images(size=32), tiny_config(), TrainConfig(steps=1), tmp_path / "x", device="cpu")
    with pytest.raises(training.TrainingError, match=r"\(1, 32, 32\)"):
        next(run)
    assert not (tmp_path / "x").exists()


def test_round_trip_gives_the_same_estimates(trained, tmp_path):
    model = tiny_model(seed=5)
    checkpoints.save(tmp_path, model, checkpoints.Record())
    back = checkpoints.load(tmp_path).model
    x = torch.randn(2, 1, 16, 16)
    i = torch.tensor([0, 8])
    torch.testing.assert_close(back.scale_vae(x, i), model.scale_vae(x, i), rtol=1e-4, atol=1e-5)
    assert {k: v.tolist() for k, v in back.state_dict().items()} == {
        k: v.tolist() for k, v in model.state_dict().items()
    }
    one = checkpoints.load(trained)
    assert one.model.config == tiny_config()
    assert one.record.data.title == "squares"
    assert not any(p.requires_grad for p in one.model.parameters())
    assert "squares" in (trained / "README.md").read_text()
    assert not list(trained.glob("*.partial"))


def _copy(trained, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in (checkpoints.WEIGHTS, checkpoints.CONFIG):
        (folder / name).write_bytes((trained / name).read_bytes())
    return folder


def test_wrong_shape_is_named(trained, tmp_path):
    folder = _copy(trained, tmp_path)
    weights = load_file(folder / checkpoints.WEIGHTS)
    weights["scale_vae.from_code.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / checkpoints.WEIGHTS)
    with pytest.raises(CheckpointError, match=r"from_code.weight is \(3, 3\), should be"):
        checkpoints.load(folder)


def test_nan_weights_are_refused(trained, tmp_path):
    folder = _copy(trained, tmp_path)
    weights = load_file(folder / checkpoints.WEIGHTS)
    weights["scale_vae.from_code.weight"][0] = math.nan
    save_file(weights, folder / checkpoints.WEIGHTS)
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "holds list"),
        (lambda f: (f / "config.json").write_text(_edited(f)[:-1] + ',"x":' + "[" * 100_000), "recursion limit"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "pickles are refused"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04K\x01."), "not a readable safetensors"),
        (lambda f: (f / "config.json").write_text(_edited(f, parts=["nose"])), r"parts\[0\] must be one of scale_vae"),
        (lambda f: (f / "config.json").write_text(_edited(f, format=99)), "format 99"),
        (lambda f: (f / "config.json").write_text(_edited(f, colour=1)), "colour"),
    ],
)
def test_broken_checkpoints_say_what_is_wrong(trained, tmp_path, change, message):
    folder = _copy(trained, tmp_path)
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(folder)


def _edited(folder, **changes):
    return json.dumps({**json.loads((folder / "config.json").read_text()), **changes})


def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="refused"):
        checkpoints.load(path)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        checkpoints.load(tmp_path)


def test_unknown_device_is_refused():
    with pytest.raises(ConfigError, match="auto"):
        choose("abacus")


def test_perfect_scale_has_ssim_one_and_a_constant_does_not():
    model = tiny_model(gamma=2.0, floor=0.1)
    images = tiny_images(4).images
    x0 = 0.1 + 0.9 * images.float() / 255
    model.scale_vae.forward = lambda x_i, i: image_scale(x0, 2.0)
    cpu = Compute(torch.device("cpu"), None)
    assert evaluation.scale_ssim(model, cpu, images, 8)["x_delta"] == pytest.approx(1.0)
    model.scale_vae.forward = lambda x_i, i: torch.full_like(x_i, 0.5)
    assert evaluation.scale_ssim(model, cpu, images, 8)["alpha_bar"] < 0.7


def test_alpha_bar_s_ssim_is_of_the_step_that_was_asked_for():
    """At i = 2 of 8, by scikit-image: e^(-gamma x0 i/T) over the range that it has there."""
    model = tiny_model(gamma=2.0, floor=0.1)
    images = tiny_images(4).images
    x0 = 0.1 + 0.9 * images.double() / 255
    guess = (x0 + 0.2 * torch.rand(x0.shape, generator=torch.Generator().manual_seed(0))).clamp(max=1)
    model.scale_vae.forward = lambda x_i, i: torch.exp(-2 * guess).float()
    found = evaluation.scale_ssim(model, Compute(torch.device("cpu"), None), images, 2)
    for key, rate in (("x_delta", 2.0), ("alpha_bar", 0.5)):
        span = math.exp(-rate * 0.1) - math.exp(-rate)
        assert found[key] == pytest.approx(ssim(torch.exp(-rate * x0), torch.exp(-rate * guess), span).mean, abs=1e-4)


def test_evaluation_measures_every_row(trained):
    class Mean(torch.nn.Module):
        """Eight averages of an image, as features."""

        num_features = 8

        def forward(self, images):
            return images.float().flatten(1).unflatten(1, (8, -1)).mean(2)

    images = tiny_images(20).images
    features = features_of(images, Mean())
    reference = Reference(statistics_of(features), features, Mean(), "means")
    *_, last = evaluation.evaluate(
        checkpoints.load(trained),
        choose("cpu"),
        images,
        samples=10,
        passes=(1, 8, 50),
        reference=reference,
        judge=reference,
    )
    figures = last.figures
    assert list(figures["ssim_x_delta"]) == ["1", "2", "4", "8"]
    assert [(r["start"], r["network_evaluations"]) for r in figures["generation"]] == [
        ("consistent", 1), ("consistent", 8), ("printed", 1), ("printed", 8),
    ]  # fmt: skip
    assert all(math.isfinite(r["fid"]) and r["fid"] >= 0 for r in figures["generation"])
    assert all(r["judge"]["fid"] == pytest.approx(r["fid"], abs=1e-3) for r in figures["generation"])
    assert all(0 <= r["judge"]["recall"] <= 1 for r in figures["generation"])


def test_figures_reach_the_card(trained, tmp_path):
    folder = _copy(trained, tmp_path)
    checkpoints.update_figures(
        checkpoints.load(folder), {"ssim_x_delta": {"1": 0.91}, "ssim_alpha_bar": {"1": 0.5}, "fid_samples": 4}
    )
    assert "0.910" in (folder / "README.md").read_text()
    assert checkpoints.load(folder).record.figures["ssim_x_delta"] == {"1": 0.91}


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", "of another model"])
def test_a_state_that_cannot_be_used_is_one_message(tmp_path, content):
    folder = tmp_path / "run"
    settings = TrainConfig(steps=1, batch=4, parts=("scale_vae",))
    list(training.train(tiny_images(), tiny_config(), settings, folder, device="cpu"))
    if isinstance(content, str):
        list(training.train(tiny_images(), tiny_config(latent=6), settings, tmp_path / "other", device="cpu"))
        content = (tmp_path / "other" / checkpoints.STATE).read_bytes()
    (folder / checkpoints.STATE).write_bytes(content)
    settings = TrainConfig(steps=2, batch=4, parts=("scale_vae",))
    with pytest.raises(training.TrainingError, match="delete it to go on"):
        next(training.train(tiny_images(), tiny_config(), settings, folder, resume=True, device="cpu"))


@pytest.mark.parametrize(
    ("changes"),
    [{"kl_weight": math.nan}, {"ssim_weight": -5.0}, {"clean_share": 5.0}, {"terminal_share": -1.0}, {"seed": 10**14}],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 5}, "steps must be an object"),
        ({"steps": {"scale_vae": True}}, r"steps.scale_vae must be a whole number"),
        ({"steps": {"nose": 1}}, "steps.nose must be one of scale_vae"),
        ({"images_seen": {"twin": 10**400}}, "images_seen.twin must be a whole number from 0 to"),
        ({"figures": [1]}, "figures must be"),
        ({"figures": {"ssim": 5}}, "unknown keys: figures.ssim"),
        ({"figures": {"ssim_x_delta": {"1": "high"}}}, "figures.ssim_x_delta.1 must be a number; it is 'high'"),
        ({"figures": {"generation": [{"start": "printed"}]}}, r"lacks figures.generation\[0\].passes"),
        ({"seconds": "x"}, "seconds must be a number"),
        ({"data": None}, "of data, it must be an object"),
        ({"data": {"number": -1}}, "of data, number must be a whole number"),
        ({"history": [{"data": "x"}]}, "images_seen"),
    ],
)
def test_a_record_of_the_wrong_kind_is_refused(tmp_path, changes, message):
    checkpoints.save(tmp_path / "c", tiny_model(), checkpoints.Record())
    path = tmp_path / "c" / checkpoints.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(tmp_path / "c")


def test_the_average_forgets_at_the_rate_it_was_given():
    """At count n the old average has the weight min(decay, (1 + n) / (10 + n))."""
    for count, old in ((0, 0.1), (8, 0.5), (10_000, 0.9)):
        average, value = [torch.tensor([1.0])], [torch.tensor([0.0])]
        state.average_weights(0.9)(average, value, torch.tensor(count))
        assert average[0].item() == pytest.approx(old)


def test_what_is_saved_is_the_average(tmp_path):
    _train(tmp_path / "a", 5, learning_rate=1e-2, parts=("scale_vae",))
    state = load_file(tmp_path / "a" / checkpoints.STATE)
    saved = load_file(tmp_path / "a" / checkpoints.WEIGHTS)
    key = "scale_vae.to_code.weight"
    assert torch.equal(saved[key], state[f"average.{key}"])
    assert not torch.equal(saved[key], state[f"model.{key}"])


def test_the_prior_is_fitted_to_codes_of_clean_images(monkeypatch):
    vae, asked = tiny_model().scale_vae, []
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda x, i: asked.append((x, i)) or encode(x, i))
    fit_prior(vae, tiny_images(8).images, Compute(torch.device("cpu"), None))
    assert not torch.cat([i for _, i in asked]).any()
    assert torch.cat([x for x, _ in asked]).unique().tolist() == pytest.approx([0.1, 0.1 + 0.9 * 220 / 255])


def test_a_resumed_run_keeps_the_settings_that_are_not_given():
    recorded = {**asdict(TrainConfig(kl_weight=0.3, seed=7, parts=("twin",))), "parts": ["twin"], "unknown": 1}
    resumed = TrainConfig.resumed(recorded, steps=9, batch=None, kl_weight=None, ssim_weight=0.5)
    assert resumed == TrainConfig(steps=9, kl_weight=0.3, seed=7, parts=("twin",), ssim_weight=0.5)
    assert TrainConfig.resumed({}, steps=3) == TrainConfig(steps=3)
    with pytest.raises(ConfigError, match="earlier training"):
        TrainConfig.resumed({"steps": "many"})


def test_a_part_is_trained_once_a_step():
    with pytest.raises(ConfigError, match="each once"):
        TrainConfig(parts=("twin", "twin"))


def test_a_folder_that_was_there_stays_when_training_fails(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        run = training.train(tiny_images(), tiny_config(), TrainConfig(steps=2, **FAST), tmp_path / name, device="cpu")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optimiser_steps.Steps, "next", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                next(run)
    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "new").exists()


def test_a_save_on_the_way_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    save, failures = training.save_run, [CheckpointError("no space left"), OSError("no space left")]

    def fails_twice(run, folder):
        if failures:
            raise failures.pop()
        save(run, folder)

    monkeypatch.setattr(training, "save_run", fails_twice)
    settings = TrainConfig(steps=5, **FAST)
    steps = training.train(tiny_images(), tiny_config(), settings, tmp_path / "a", device="cpu", save_every_seconds=0)
    assert [step.saved for step in steps] == [False, False, True, True, False]
    assert checkpoints.load(tmp_path / "a").record.steps["twin"] == 5


def test_a_folder_that_cannot_be_written_is_found_out_before_resuming(trained, tmp_path, monkeypatch):
    def no(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    monkeypatch.setattr(pathlib.Path, "touch", no)
    monkeypatch.setattr(optimiser_steps.Steps, "next", lambda self: pytest.fail("it was trained first"))
    with pytest.raises(CheckpointError, match="cannot be written"):
        _train(folder, 8, resume=True)


def test_a_file_that_does_not_fit_is_refused_before_its_model_is_built(trained, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    config = json.loads((folder / checkpoints.CONFIG).read_text())
    config["model"]["vae_widths"] = [1024, 1024]
    (folder / checkpoints.CONFIG).write_text(json.dumps(config))
    built, model = [], checkpoints.PixelAwareModel

    def build(*args):
        built.append(torch.empty(0).device)
        return model(*args)

    monkeypatch.setattr(checkpoints, "PixelAwareModel", build)
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoints.load(folder)
    assert [device.type for device in built] == ["meta"]


def test_a_batch_keeps_one_state_in_memory(monkeypatch):
    """However many steps a method takes: T states of a hundred images would be most of what it needs."""
    alive, most = weakref.WeakSet(), []

    def steps(*args, n, first, **settings):
        for i in range(50, -1, -1):
            x = torch.zeros(n, 1, 16, 16)
            alive.add(x)
            most.append(len(alive))
            yield SampleStep(i, x, 1)

    monkeypatch.setattr("pixelviz.samplers.batches.draw", steps)
    list(sample_images(tiny_model(), Compute(torch.device("cpu"), None), 4))
    assert len(most) == 51
    assert max(most) <= 3
