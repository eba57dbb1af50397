"""PixelAware: the checkpoint's round trip through huggingface_hub's mixin, offline."""

import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, RepoUrl
from safetensors.torch import load_file, save_file

from pixelviz.devices import choose
from pixelviz.samplers import SamplerError
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.checkpoints import CheckpointError
from pixelviz.store.hub import FILES, PixelAware
from tests.served import train_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("hub") / "tiny", head_target="v")


@pytest.fixture
def offline(monkeypatch):
    """No socket can be opened."""

    def refuse(*args, **kwargs):
        raise OSError("the network is not to be used")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_a_folder_is_loaded_offline_and_draws(folder, offline):
    model = PixelAware.from_pretrained(str(folder))
    images = model.sample(3, passes=2, seed=5)
    assert [(image.mode, image.size) for image in images] == [("L", (16, 16))] * 3
    assert np.array_equal(model.sample(2, passes=2, seed=5)[1], images[1])
    loaded = checkpoints.load(folder)
    wanted = next(iter(sample_images(loaded.model, choose("cpu"), 3, passes=2, seed=5))).images
    assert np.array_equal(np.stack(images), wanted[:, 0].numpy())
    with pytest.raises(SamplerError, match="passes"):
        model.sample(1, passes=99)


@pytest.mark.parametrize("stored_as", ["float32", "float16", "bfloat16"])
def test_round_trip(folder, tmp_path, offline, stored_as):
    model = PixelAware.from_pretrained(folder)
    model.stored_as = stored_as
    model.save_pretrained(tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(FILES)
    again = PixelAware.from_pretrained(tmp_path / "copy")
    assert again.stored_as == stored_as
    assert again.record == model.record
    assert again.model.config == model.model.config
    size = [(path / checkpoints.WEIGHTS).stat().st_size for path in (folder, tmp_path / "copy")]
    assert size[1] < (0.6 if stored_as != "float32" else 1.01) * size[0]
    step = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8}[stored_as]
    for (key, one), two in zip(model.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert two.dtype == torch.float32, key
        # Rounding to 11 or 8 significant bits; below 6e-8 float16 has none left.
        torch.testing.assert_close(two, one, rtol=step, atol=6e-8 if step else 0, msg=key)
    weights = again.model.scale_vae.prior_log_weight.exp().sum()
    assert weights.item() == pytest.approx(1, abs=1e-6)
    i = torch.tensor([0, 8])
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(again.model.scale_vae(x, i), model.model.scale_vae(x, i), atol=0.02, rtol=0.05)


def test_no_images_are_refused(folder, offline):
    for n in (0, -1, 1.5):
        with pytest.raises(SamplerError, match="n must be at least 1"):
            PixelAware.from_pretrained(str(folder)).sample(n)


def test_what_float16_cannot_hold_is_refused(folder, tmp_path):
    model = PixelAware.from_pretrained(folder)
    with torch.no_grad():
        model.model.scale_vae.to_code.bias[0] = 1e6
    model.stored_as = "float16"
    with pytest.raises(CheckpointError, match=r"to_code\.bias has values that float16 cannot hold"):
        model.save_pretrained(tmp_path / "copy")
    model.stored_as = "int4"
    with pytest.raises(CheckpointError, match="not as 'int4'"):
        model.save_pretrained(tmp_path / "copy")


def test_the_card_shows_how_to_load_it(folder, offline):
    text = (folder / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    names = {}
    exec(code.replace('"tiny"', repr(str(folder))), names)  # the card's own three lines
    assert len(names["images"]) == 8


def test_wrong_shapes_and_pickles_are_refused_as_by_load(folder, tmp_path, offline):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = load_file(copy / checkpoints.WEIGHTS)
    save_file({**weights, "scale_vae.to_code.bias": torch.zeros(3)}, copy / checkpoints.WEIGHTS)
    with pytest.raises(CheckpointError, match=r"to_code.bias is \(3,\), should be"):
        PixelAware.from_pretrained(copy)
    whole = weights["scale_vae.to_code.bias"].long()
    save_file({**weights, "scale_vae.to_code.bias": whole}, copy / checkpoints.WEIGHTS)
    with pytest.raises(CheckpointError, match=r"to_code\.bias holds I64, should be floating-point"):
        PixelAware.from_pretrained(copy)
    (copy / checkpoints.WEIGHTS).unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickles are refused"):
        PixelAware.from_pretrained(copy)
    with pytest.raises(CheckpointError, match="refused"):
        PixelAware.from_pretrained(copy / "pytorch_model.bin")
    (copy / checkpoints.CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        PixelAware.from_pretrained(copy)


@pytest.mark.parametrize("name", ["checkpoints/absent-from-here", "no such/folder/at all", "absent"])
def test_what_is_nowhere_is_said(name, offline, tmp_path):
    with pytest.raises(CheckpointError, match="neither a folder here nor a repository"):
        PixelAware.from_pretrained(name, cache_dir=tmp_path)


def test_push_sends_the_three_files(folder, monkeypatch):
    """Up to the request itself, which a test must not make."""
    sent = {}

    def upload(self, *, repo_id, folder_path, **options):
        sent.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: RepoUrl(f"https://huggingface.co/{repo_id}"))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    PixelAware.from_pretrained(folder).push_to_hub("someone/tiny")
    assert sorted(sent) == sorted(FILES)
    assert sent[checkpoints.WEIGHTS] == (folder / checkpoints.WEIGHTS).read_bytes()
    assert b"# tiny" in sent[checkpoints.CARD]
