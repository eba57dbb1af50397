"""PixelAware: the checkpoint's round trip through huggingface_hub's mixin, offline."""

import base64
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import HfApi, RepoUrl
from safetensors.torch import load_file, save_file

from pixelviz.data.sets import CIFAR, FASHION
from pixelviz.devices import choose
from pixelviz.samplers import SamplerError
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints, fetch, publish
from pixelviz.store.checkpoints import CheckpointError
from pixelviz.store.fetch import FILES
from pixelviz.store.hub import PixelAware
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passes": 1.5}, r"passes must be a whole number; it is 1\.5"),
        ({"passes": "2"}, "passes must be a whole number; it is '2'"),
        ({"passes": 9}, r"passes must be between 1 \(one run of the network\) and T = 8; it is 9"),
        *(({"seed": seed}, "seed must be a whole number from 0 to 4,294,967,295") for seed in (None, -1, 2**63, "a")),
        ({"sampler": "magic"}, "no sampler 'magic'"),
    ],
)
def test_settings_that_cannot_be_are_said(folder, settings, message):
    with pytest.raises(SamplerError, match=message):
        PixelAware.from_pretrained(folder).sample(1, **settings)


@pytest.mark.parametrize("to", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_dtype_draw(folder, tmp_path, to):
    wanted = np.stack(PixelAware.from_pretrained(folder).sample(2, precision="float32")).astype(int)
    model = PixelAware.from_pretrained(folder).to(to)
    images = np.stack(model.sample(2, precision="float32")).astype(int)
    assert {p.dtype for p in model.parameters()} == {to}
    assert np.abs(images - wanted).max() <= (0 if to == torch.float64 else 16)
    model.save_pretrained(tmp_path / "copy")
    again = PixelAware.from_pretrained(tmp_path / "copy")
    assert again.stored_as == ("float32" if to == torch.float64 else str(to).removeprefix("torch."))


def test_loading_takes_what_people_write(folder, offline):
    at = PixelAware.from_pretrained(
        folder.parent, subfolder=folder.name, device="cpu", torch_dtype=torch.bfloat16, revision="main"
    )
    assert {p.dtype for p in at.parameters()} == {torch.bfloat16}
    assert PixelAware.from_pretrained(folder, torch_dtype="float16", device=torch.device("cpu")).sample(1)
    with pytest.raises(TypeError, match="colour"):
        PixelAware.from_pretrained(folder, colour="red")
    with pytest.raises(CheckpointError, match="torch_dtype is one of float32, float16, bfloat16; it is 'int8'"):
        PixelAware.from_pretrained(folder, torch_dtype="int8")
    with pytest.raises(ValueError, match="device 'abacus' is not available"):
        PixelAware.from_pretrained(folder, device="abacus")


@torch.no_grad()
def test_forward_is_both_networks(folder):
    model, x_i = PixelAware.from_pretrained(folder), torch.rand(2, 1, 16, 16)
    x_delta, heads = model(x_i, 5)
    i = torch.tensor([5, 5])
    torch.testing.assert_close(x_delta, model.model.scale_vae(x_i, i))
    torch.testing.assert_close(heads, model.model.parallel_unet(x_i, x_delta, i))
    assert heads.shape == (2, 8, 1, 16, 16)
    assert not heads[:, 5:].any()


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
    with pytest.raises(CheckpointError, match="neither a folder here nor a repository") as said:
        PixelAware.from_pretrained(name, cache_dir=tmp_path)
    assert "\n" not in str(said.value)


def test_a_mistyped_folder_and_a_missing_network_are_one_line(folder, offline):
    with pytest.raises(CheckpointError, match=f"there is {folder}") as said:
        PixelAware.from_pretrained(folder.with_name("tinny"))
    assert "\n" not in str(said.value)
    with pytest.raises(CheckpointError, match=r"someone/tiny could not be written to the Hub \(") as said:
        PixelAware.from_pretrained(folder).push_to_hub("someone/tiny", token="hf_none")
    assert "\n" not in str(said.value)


def test_a_name_of_the_hub_serves_from_its_last_copy(folder, offline, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="someone/tiny is neither"):
        fetch.located(Path("someone/tiny"))
    shutil.copytree(folder, tmp_path / "pixelviz" / "hub" / "someone" / "tiny")
    found = fetch.located(Path("someone/tiny"))
    assert checkpoints.load(found).model.config.T == 8
    assert fetch.name_of(found) == "someone/tiny"
    assert fetch.name_of(folder) == "tiny"
    for path in (folder, folder / "absent", tmp_path / "a" / "b"):
        assert fetch.located(path) == path


def front(folder):
    """What the card's YAML says."""
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


def test_the_card_says_what_is_known_and_nothing_else(folder, tmp_path):
    assert front(folder) == {
        "library_name": "pixelviz",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["diffusion", "pixel-aware"],
    }
    loaded = checkpoints.load(folder)
    for row in (FASHION, CIFAR):
        record = replace(loaded.record, data=row.origin, base="of: mine #1", licence="cc-by-4.0")
        checkpoints.save(tmp_path / row.name, loaded.model, record)
        said = front(tmp_path / row.name)
        assert (said["datasets"], said["base_model"], said["license"]) == ([row.hub], "of: mine #1", "cc-by-4.0")
    assert front(Path(__file__).parents[1] / "checkpoints" / "fashion-mnist")["license"] == "mit"


@pytest.fixture(scope="module")
def published(folder, tmp_path_factory):
    """What `publish` would send of the tiny model, and where."""
    into = tmp_path_factory.mktemp("published")
    return publish.write(checkpoints.load(folder), "someone/small-squares", into, licence="mit", base="someone/squares")


def test_publishing_writes_a_model_and_a_space_that_shows_it(folder, published, offline):
    model, space = published
    assert sorted(path.name for path in model.iterdir()) == sorted(FILES)
    assert (front(model)["license"], front(model)["base_model"]) == ("mit", "someone/squares")
    assert 'from_pretrained("someone/small-squares")' in (model / "README.md").read_text()
    card = front(space)
    assert (card["sdk"], card["app_file"], card["models"]) == ("gradio", "app.py", ["someone/small-squares"])
    assert not any(path.name in ("run.yaml", "__pycache__") for path in space.rglob("*"))
    program = (
        "from pixelviz.data.assets import CHECKPOINTS; from pixelviz.service.service import Service;"
        "print(CHECKPOINTS, *Service().names())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=space, capture_output=True, text=True, check=True)
    where, *names = done.stdout.split()
    assert where == str(space / "checkpoints")
    assert {"small-squares", "fashion-mnist"} <= set(names)


@pytest.mark.parametrize(
    ("repository", "licence", "message"),
    [("tiny", None, "USER/NAME"), ("a/b/c", None, "USER/NAME"), ("a/b", "MIT License", "such as mit or cc-by-4.0")],
)
def test_what_the_hub_would_refuse_is_said_before(folder, tmp_path, repository, licence, message):
    with pytest.raises(CheckpointError, match=message):
        publish.write(checkpoints.load(folder), repository, tmp_path, licence=licence)
    assert not list(tmp_path.iterdir())


def test_both_are_sent_and_a_missing_network_is_one_line(published, monkeypatch, offline):
    with pytest.raises(CheckpointError, match=r"could not be written to the Hub \("):
        publish.upload("someone/small-squares", published)
    sent = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **given: sent.append(given) or "made")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **given: sent.append(given))
    assert publish.upload("someone/small-squares", published, private=True) == ["made", "made"]
    assert [one["repo_type"] for one in sent] == ["model", "model", "space", "space"]
    assert (sent[0]["private"], sent[2]["space_sdk"]) == (True, "gradio")
    assert [one["folder_path"] for one in sent[1::2]] == published


class StandIn(BaseHTTPRequestHandler):
    """As much of the Hub as huggingface_hub asks of it to make a repository and to write files into it."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.close_connection = True
        hub, body = self.server, self.rfile.read(int(self.headers["Content-Length"] or 0))
        hub.asked.append((self.path, self.headers["Authorization"]))
        if hub.refuses:
            return self._answer(403, {"error": "you have no right to write here"})
        kind, _, rest = self.path.removeprefix("/api/").partition("/")
        if self.path == "/api/repos/create":
            made = json.loads(body)
            hub.made.append(made)
            place = "spaces/" if made.get("type") == "space" else ""
            return self._answer(200, {"url": f"{hub.url}/{place}{made['organization']}/{made['name']}"})
        if "/preupload/" in rest:
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
            return self._answer(200, {"files": [one | {"shouldIgnore": False} for one in files]})
        if "/commit/" in rest:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    hub.files[kind, rest.split("/commit/")[0], line["value"]["path"]] = content
            return self._answer(200, {"commitUrl": f"{hub.url}/a/b/commit/1", "commitOid": "1" * 40})
        return self._answer(200, {})  # validates a card

    def _answer(self, status, values):
        text = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def stand_in(monkeypatch):
    """A server in the Hub's place, which the real client asks, with a token."""
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as hub:
        hub.url, hub.refuses = f"http://127.0.0.1:{hub.server_port}", False
        hub.asked, hub.made, hub.files = [], [], {}
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


def test_the_real_client_makes_both_repositories_and_sends_every_file(published, stand_in, tmp_path):
    """huggingface_hub itself, by HTTP, against what stands in for the Hub."""
    model, space = published[0], tmp_path / "space"
    (space / "pixelviz").mkdir(parents=True)
    for name in ("app.py", "README.md"):
        shutil.copyfile(published[1] / name, space / name)
    (space / "pixelviz" / "__init__.py").write_text("")
    addresses = publish.upload("someone/small-squares", [model, space], private=True)
    assert addresses == [f"{stand_in.url}/someone/small-squares", f"{stand_in.url}/spaces/someone/small-squares"]
    for made in stand_in.made:
        assert (made["name"], made["organization"]) == ("small-squares", "someone")
        assert made.get("private", made.get("visibility") == "private") is True  # as the client's versions write it
    assert (stand_in.made[1]["type"], stand_in.made[1]["sdk"]) == ("space", "gradio")
    wanted = {
        (kind, "someone/small-squares", path.relative_to(folder).as_posix()): path.read_bytes()
        for kind, folder in (("models", model), ("spaces", space))
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert stand_in.files == wanted
    assert {token for _, token in stand_in.asked} == {"Bearer hf_secret"}


def test_a_hub_that_refuses_is_one_line(published, stand_in):
    stand_in.refuses = True
    with pytest.raises(CheckpointError, match=r"could not be written to the Hub \(.*403") as found:
        publish.upload("someone/small-squares", published[:1])
    assert "\n" not in str(found.value)
    assert "hf_secret" not in str(found.value)
    assert stand_in.files == {}


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
