"""A diffusers folder as a peer: a tiny UNet2DModel saved as diffusers saves it, and what is no such folder."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from pixelviz.devices import Compute
from pixelviz.measure.benchmark import bench, cases, read_results
from pixelviz.models.pixel_aware import MissingPart
from pixelviz.samplers import draw
from pixelviz.service.shelf import PeerShelf
from pixelviz.store import peers
from pixelviz.store.checkpoints import CheckpointError
from tests.test_benchmark import checkpoint, reference  # noqa: F401

CPU = Compute(torch.device("cpu"), None)


def save_pipeline(folder, side=16, channels=1, steps=1000, **schedule):
    """A tiny pipeline in `folder`; returns its network."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
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


def test_it_draws_as_diffusers_own_pipeline_does(pipeline):
    """DDIM of 10 steps from the same noise, against DDIMScheduler called by hand, without clipping (see `ddim`)."""
    from diffusers import DDIMScheduler

    folder, unet = pipeline
    states = list(draw(peers.load_peer(folder), CPU, n=2, sampler="ddim", passes=10, seed=4))
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(10)
    x = 2 * states[0].x - 1
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
    torch.testing.assert_close(states[-1].x, (x + 1) / 2, rtol=1e-4, atol=1e-4)


def test_its_own_schedule_is_used(tmp_path):
    save_pipeline(tmp_path / "p", steps=400, beta_start=2e-4, beta_end=0.03)
    model = peers.load_peer(tmp_path / "p")
    assert model.linear_twin.training_schedule["num_train_timesteps"] == 400
    assert model.linear_twin.training_schedule["beta_end"] == 0.03
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
        (lambda f: _change(f / "scheduler", "scheduler_config.json", prediction_type="v_prediction"), "v_prediction"),
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
