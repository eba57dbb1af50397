"""A diffusers folder as a peer: a tiny UNet2DModel saved as diffusers saves it, and what is no such folder."""

import copy
import json
import shutil
from collections import deque
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file, save_file

from pixelviz.devices import Compute
from pixelviz.measure.benchmark import bench, cases, read_results
from pixelviz.models.pixel_aware import MissingPart
from pixelviz.samplers import baselines, draw
from pixelviz.service.shelf import PeerShelf
from pixelviz.store import peers
from pixelviz.store.checkpoints import CheckpointError, part_digest
from tests.test_benchmark import checkpoint, reference  # noqa: F401

CPU = Compute(torch.device("cpu"), None)


def save_pipeline(folder, side=16, channels=1, steps=1000, num_class_embeds=None, **schedule):
    """A tiny pipeline in `folder`; returns its network."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        num_class_embeds=num_class_embeds,
    )  # fmt: skip
    scheduler = DDPMScheduler(num_train_timesteps=steps, **schedule)
    DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)
    return unet.eval()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers") / "tiny-ddpm"
    return folder, save_pipeline(folder)


def flat(pipeline, into):
    """The same as one flat folder, as google/ddpm-cifar10-32 has it."""
    folder, _ = pipeline
    into.mkdir()
    for name in ("unet/config.json", f"unet/{peers.WEIGHTS}", "scheduler/scheduler_config.json"):
        (into / name.split("/")[1]).write_bytes((folder / name).read_bytes())
    return into


@torch.no_grad()
def test_a_pipeline_folder_and_a_flat_one_load(pipeline, tmp_path):
    folder, unet = pipeline
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 900])
    for where, name in ((folder, "tiny-ddpm"), (flat(pipeline, tmp_path / "flat"), "flat")):
        model = peers.load_peer(where)
        assert model.name == name
        assert model.config.shape == (1, 16, 16)
        torch.testing.assert_close(model.linear_twin(x, t), unet(x, t).sample)
        assert model.parameter_counts() == {"linear_twin": sum(p.numel() for p in unet.parameters())}
        assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(MissingPart, match="diffusers model"):
        model.need("parallel_unet")


SCHEDULES = {
    "epsilon": {},
    "v": {"prediction_type": "v_prediction"},
    "sample": {"prediction_type": "sample"},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 1e-3, "beta_end": 0.015},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "zero SNR": {
        "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction",
    },
    "large variance": {"variance_type": "fixed_large"},
    "small variance by its logarithm": {"variance_type": "fixed_small_log"},
    "unclipped": {"clip_sample": False},
    "clipped elsewhere": {"clip_sample_range": 0.4},
    "thresholds": {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
    "linspace": {"timestep_spacing": "linspace"},
    "offset": {"steps_offset": 1, "timestep_spacing": "leading"},
    "given betas": {"trained_betas": [1e-3 + 2e-5 * t for t in range(1000)]},
}  # fmt: skip


def streams(n, seed=4):
    """Generators that stand where those of `draw` do for images 0..n-1 of a seed."""
    return [torch.Generator().manual_seed((seed * 0x9E3779B1 + k) % 2**63) for k in range(n)]


@pytest.fixture
def configured(tmp_path, request):
    """A tiny pipeline's folder and the pipeline, as diffusers loads it."""
    save_pipeline(tmp_path / "p", **SCHEDULES[request.param])
    pipe = DDPMPipeline.from_pretrained(tmp_path / "p")
    pipe.set_progress_bar_config(disable=True)
    return tmp_path / "p", pipe


@pytest.mark.parametrize("configured", SCHEDULES, indirect=True)
def test_it_draws_as_diffusers_own_pipelines_do(configured):
    """DDPM and DDIM of 10 steps from the same noise: diffusers' pipelines know nothing of this project."""
    folder, pipe = configured
    model, pipes = peers.load_peer(folder), {"ddpm": pipe}
    if pipe.scheduler.config.beta_schedule != "sigmoid":  # which diffusers has for DDPM alone
        pipes["ddim"] = DDIMPipeline(pipe.unet, DDIMScheduler.from_config(pipe.scheduler.config))
        pipes["ddim"].set_progress_bar_config(disable=True)
    for method, own in pipes.items():
        wanted = own(batch_size=2, generator=streams(2), num_inference_steps=10, output_type="pt").images
        if method == "ddim":  # diffusers gives these as arrays (N, H, W, C) whatever is asked for
            wanted = torch.as_tensor(wanted)
            wanted = wanted.permute(0, 3, 1, 2) if wanted.shape[-1] == 1 else wanted
        found = deque(draw(model, CPU, n=2, sampler=method, passes=10, seed=4), maxlen=1).pop().x.clamp(0, 1)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, msg=lambda text, m=method: f"{m}: {text}")


@pytest.mark.parametrize(
    ("method", "kind", "settings"),
    [
        ("dpm++", DPMSolverMultistepScheduler, {"solver_order": 3, "use_karras_sigmas": True}),
        (
            "dpm++",
            DPMSolverMultistepScheduler,
            {"algorithm_type": "sde-dpmsolver++", "prediction_type": "v_prediction"},
        ),
        ("unipc", UniPCMultistepScheduler, {"solver_order": 3, "prediction_type": "sample"}),
        ("unipc", UniPCMultistepScheduler, {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ],
)
def test_a_solver_of_its_own_runs_as_it_is_configured(tmp_path, method, kind, settings):
    unet = save_pipeline(tmp_path / "p")
    DDPMPipeline(unet, kind(**settings)).save_pretrained(tmp_path / "p")
    states = list(draw(peers.load_peer(tmp_path / "p"), CPU, n=2, sampler=method, passes=10, seed=4))
    generators, solver = streams(2), kind.from_pretrained(tmp_path / "p" / "scheduler")
    x = torch.stack([torch.randn(1, 16, 16, generator=g) for g in generators])
    solver.set_timesteps(10)
    drawing = {"generator": generators} if kind is DPMSolverMultistepScheduler else {}
    with torch.inference_mode():
        for t in solver.timesteps:
            x = solver.step(unet(x, t).sample, t, x, **drawing).prev_sample
    torch.testing.assert_close(states[-1].x, (x + 1) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_corrector_gets_the_noise_estimate_from_any_prediction(kind):
    scheduler = DDPMScheduler(prediction_type=kind)
    x0, eps = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    x_t, t = scheduler.add_noise(x0, eps, torch.tensor([400, 400])), torch.tensor([400, 400])
    said = {"epsilon": eps, "v_prediction": scheduler.get_velocity(x0, eps, t), "sample": x0}[kind]
    torch.testing.assert_close(
        baselines._noise_estimate(scheduler, lambda *_: said, x_t, 400), eps, rtol=1e-4, atol=1e-4
    )


def test_what_a_configuration_does_not_allow_is_known_at_load(tmp_path, checkpoint):  # noqa: F811
    """diffusers' DDIM, DPM-Solver and UniPC know no sigmoid schedule; the others still run."""
    save_pipeline(tmp_path / "p", beta_schedule="sigmoid")
    model = peers.load_peer(tmp_path / "p")
    assert set(model.refused) == {"ddim", "ddim-quad", "dpm++", "dpm++-clip", "unipc", "unipc-clip"}
    assert "sigmoid" in model.refused["dpm++"]
    methods = ["ddpm:10", "dpm++:10"]
    found = [(case.method, case.model) for case in cases(checkpoint, "tiny", methods, [model])]
    assert found == [("ddpm", "tiny"), ("ddpm", "p"), ("dpm++", "tiny")]


def test_classes_are_told_and_are_each_image_s_own(tmp_path):
    unet = save_pipeline(tmp_path / "p", num_class_embeds=5)
    model = peers.load_peer(tmp_path / "p")
    whole = list(draw(model, CPU, n=6, sampler="ddim", passes=10, seed=4))
    alone = list(draw(model, CPU, n=1, first=3, sampler="ddim", passes=10, seed=4))
    torch.testing.assert_close(whole[-1].x[3:4], alone[-1].x)
    seen = []
    model.linear_twin.register_forward_pre_hook(lambda module, given: seen.append(given[2]))
    list(draw(model, CPU, n=40, sampler="ddim", passes=1, seed=4))
    assert set(seen[0].tolist()) == set(range(5))
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 900])
    with torch.no_grad():
        wanted = unet(x, t, class_labels=torch.tensor([1, 4])).sample
        torch.testing.assert_close(model.linear_twin(x, t, torch.tensor([1, 4])), wanted)


def test_averaged_weights_and_variants_are_found(pipeline, tmp_path):
    folder, unet = pipeline
    shutil.copytree(folder, tmp_path / "half")
    (tmp_path / "half" / "unet" / peers.WEIGHTS).unlink()
    copy.deepcopy(unet).half().save_pretrained(tmp_path / "half" / "unet", variant="fp16")
    half = peers.load_peer(tmp_path / "half").linear_twin.unet
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    torch.testing.assert_close(half.conv_in.weight, unet.conv_in.weight.half().float())
    shutil.copytree(folder, tmp_path / "ema")
    averaged = copy.deepcopy(unet)
    torch.nn.init.constant_(averaged.conv_in.bias, 0.5)
    averaged.save_pretrained(tmp_path / "ema" / "unet_ema")
    assert (peers.load_peer(tmp_path / "ema").linear_twin.unet.conv_in.bias == 0.5).all()


def test_another_configuration_is_another_model(pipeline, tmp_path):
    shutil.copytree(pipeline[0], tmp_path / "p")
    _change(tmp_path / "p" / "scheduler", "scheduler_config.json", variance_type="fixed_large")
    one, two = (part_digest(peers.load_peer(folder).linear_twin) for folder in (pipeline[0], tmp_path / "p"))
    assert one != two


def test_its_own_schedule_is_used(tmp_path):
    save_pipeline(tmp_path / "p", steps=400, beta_start=2e-4, beta_end=0.03)
    model = peers.load_peer(tmp_path / "p")
    assert model.linear_twin.scheduler["beta_end"] == 0.03
    assert next(draw(model, CPU, n=1, sampler="ddim", passes=10)).i == 400


def test_it_takes_part_in_the_benchmark(pipeline, checkpoint, reference, tmp_path):  # noqa: F811
    model = peers.load_peer(pipeline[0])
    found = cases(checkpoint, "tiny", ["ddim:2"], [model])
    assert [(case.method, case.model) for case in found] == [("ddim", "tiny"), ("ddim", "tiny-ddpm")]
    path = tmp_path / "r.json"
    list(bench(checkpoint, CPU, path, reference, samples=20, seeds=1, methods=["ddim:2"], peers=[model]))
    rows = read_results(path)["rows"]
    assert [row["model"] for row in rows] == ["tiny", "tiny-ddpm"]
    assert rows[1]["parameters"] == model.parameter_counts()["linear_twin"]
    assert rows[1]["images_seen"] is None
    assert rows[0]["fid"] != rows[1]["fid"]


def test_another_image_shape_cannot_be_compared(checkpoint, reference, tmp_path):  # noqa: F811
    save_pipeline(tmp_path / "rgb", channels=3)
    with pytest.raises(ValueError, match="cannot be compared"):
        next(bench(checkpoint, CPU, tmp_path / "r.json", reference, peers=[peers.load_peer(tmp_path / "rgb")]))


def _change(folder, name, **values):
    path = next(folder.rglob(name))
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda f: (f / "unet" / peers.WEIGHTS).rename(f / "unet" / "diffusion_pytorch_model.bin"),
            "pickles .*refused",
        ),
        (lambda f: (f / "scheduler" / "scheduler_config.json").unlink(), "has no scheduler_config"),
        (lambda f: _change(f / "unet", "config.json", _class_name="UNet2DConditionModel"), "only a UNet2DModel"),
        (lambda f: _change(f / "unet", "config.json", in_channels=4), "channels"),
        (lambda f: _change(f / "unet", "config.json", sample_size=[16, 16]), "side"),
        (lambda f: _change(f / "unet", "config.json", block_out_channels=[16, 16]), "does not fit"),
        (lambda f: _change(f / "scheduler", "scheduler_config.json", prediction_type="colour"), "cannot be sampled"),
        (lambda f: _change(f / "scheduler", "scheduler_config.json", _class_name="ScoreSdeVeScheduler"), "ScoreSdeVe"),
        (lambda f: _change(f / "unet", "config.json", class_embed_type="timestep"), "told classes as timestep"),
        (lambda f: (f / "unet" / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "unet" / peers.WEIGHTS).write_bytes(b"x" * 100), "does not fit"),
    ],
)
def test_what_is_no_peer_says_why(tmp_path, harm, message):
    folder = tmp_path / "p"
    save_pipeline(folder)
    harm(folder)
    with pytest.raises(CheckpointError, match=message):
        peers.load_peer(folder)


def test_a_folder_is_not_searched_to_its_bottom(tmp_path, monkeypatch):
    """The folder named may be a whole disk."""
    monkeypatch.setattr(Path, "rglob", lambda *args: pytest.fail("it walks through everything"))
    with pytest.raises(CheckpointError, match="has no"):
        peers.load_peer(tmp_path)


def test_two_folders_of_one_name_are_two_peers(pipeline, tmp_path):
    shelf = PeerShelf(torch.device("cpu"))
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        flat(pipeline, tmp_path / place / "same")
    assert shelf.load(str(tmp_path / "a" / "same")) == "same"
    assert shelf.load(str(tmp_path / "b" / "same")) == "same-2"
    assert shelf.load(str(tmp_path / "a" / "same")) == "same"
    assert shelf.names() == ["same-2", "same"]
    assert shelf.load(str(tmp_path / "a" / "same"), taken={"same"}) == "same-3"
    assert shelf.get("same-3").name == "same-3"


def test_values_that_are_not_finite_and_folders_that_are_not_there(tmp_path):
    folder = tmp_path / "p"
    save_pipeline(folder)
    weights = load_file(folder / "unet" / peers.WEIGHTS)
    weights["conv_in.bias"][0] = torch.nan
    save_file(weights, folder / "unet" / peers.WEIGHTS)
    with pytest.raises(CheckpointError, match=r"not finite, first in conv_in\.bias"):
        peers.load_peer(folder)
    with pytest.raises(CheckpointError, match="is not a folder"):
        peers.load_peer(tmp_path / "absent")
