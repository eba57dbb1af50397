"""Which checkpoints there are, and how folders and files from strangers are taken or refused."""

import json
import os
import shutil

import pytest

from pixelviz.data.assets import ASSETS
from pixelviz.service.catalog import MAX_LOADED
from pixelviz.service.service import Service, ServiceError
from pixelviz.store import checkpoints
from pixelviz.view import View
from tests.served import photo, train_tiny


def test_names_follow_the_disk(empty):
    assert empty.names() == []
    with pytest.raises(ServiceError, match="no checkpoint yet"):
        empty.checkpoint("tiny")
    train_tiny(empty.runs / "b", parts=("scale_vae",))
    train_tiny(empty.runs / "a")
    assert empty.names() == ["b", "a"]  # the newest last
    assert empty.names("parallel_unet") == ["a"]
    shutil.rmtree(empty.runs / "b")
    assert empty.names() == ["a"]


def test_a_model_is_loaded_once_and_again_when_its_files_change(empty):
    folder = train_tiny(empty.runs / "a")
    first = empty.checkpoint("a")
    assert empty.checkpoint("a") is first
    weights = folder / checkpoints.WEIGHTS
    checkpoints.save(folder, first.model, first.record)
    stamp = weights.stat().st_mtime + 5
    os.utime(weights, (stamp, stamp))
    assert empty.checkpoint("a") is not first


def test_only_a_few_models_stay_in_memory(empty):
    first = train_tiny(empty.runs / "m0", parts=("scale_vae",))
    for k in range(1, MAX_LOADED + 1):
        shutil.copytree(first, empty.runs / f"m{k}")
    loaded = empty.checkpoint("m0")
    for k in range(1, MAX_LOADED + 1):
        empty.checkpoint(f"m{k}")
    assert empty.checkpoint(f"m{MAX_LOADED}") is empty.checkpoint(f"m{MAX_LOADED}")
    assert empty.checkpoint("m0") is not loaded


def test_broken_folders_are_reported_and_hide_nothing(empty):
    good = train_tiny(empty.runs / "good")
    for name, spoil in {
        "no-json": lambda f: (f / checkpoints.CONFIG).write_text("{"),
        "no-weights": lambda f: (f / checkpoints.WEIGHTS).unlink(),
        "list": lambda f: (f / checkpoints.CONFIG).write_text("[1]"),
        "odd": lambda f: _edit(f, image_size="big"),
        "huge": lambda f: _edit(f, latent=10**9),
    }.items():
        shutil.copytree(good, empty.runs / name)
        spoil(empty.runs / name)
    (empty.runs / "pickled").mkdir()
    (empty.runs / "pickled" / "model.pt").write_bytes(b"x")
    (empty.runs / "unrelated").mkdir()
    (empty.runs / "notes.txt").write_text("x")
    assert empty.names() == ["good"]
    problems = dict(empty.problems())
    assert set(problems) == {"no-json", "no-weights", "list", "odd", "huge", "pickled"}
    assert "pickle" in problems["pickled"]
    assert not any("Something went wrong" in text for text in problems.values())


def _edit(folder, **changes):
    path = folder / checkpoints.CONFIG
    values = json.loads(path.read_text())
    values["model"].update(changes)
    path.write_text(json.dumps(values))


def test_weights_that_do_not_fit_are_explained(empty):
    folder = train_tiny(empty.runs / "a")
    _edit(folder, latent=5)
    assert empty.names() == ["a"]
    with pytest.raises(ValueError, match="does not fit") as caught:
        empty.checkpoint("a")
    assert str(empty.runs) not in str(caught.value)


def test_loading_a_folder(service, empty, tmp_path):
    folder = train_tiny(tmp_path / "else where" / "tiny", parts=("scale_vae",))
    assert empty.load_folder(str(folder)) == "tiny"
    assert empty.load_folder(f" {folder} ") == "tiny"
    assert empty.names() == ["tiny"]
    assert empty.describe("tiny")["kind"] == "loaded"
    train_tiny(tmp_path / "third" / "tiny", parts=("scale_vae",))
    assert empty.load_folder(str(tmp_path / "third" / "tiny")) == "tiny-2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: None, "name the folder"),
        (lambda tmp: "", "name the folder"),
        (lambda tmp: "a\0b", "name the folder"),
        (lambda tmp: str(tmp / "missing"), "not a folder"),
        (lambda tmp: str(_file(tmp / "model.pt")), "Pickled checkpoints are refused"),
        (lambda tmp: str(tmp), "neither"),
        (lambda tmp: str(_file(tmp / "old" / "weights.pth").parent), "pickle"),
    ],
)
def test_folders_that_are_no_checkpoints_are_refused(empty, tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        empty.load_folder(make(tmp_path))
    assert empty.names() == []


def _file(path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x80\x04.")
    return path


def test_loading_sent_files(empty, tmp_path):
    folder = train_tiny(tmp_path / "sent", parts=("scale_vae",))
    files = [folder / checkpoints.CONFIG, folder / checkpoints.WEIGHTS]
    name = empty.load_files(files)
    assert empty.names() == [name]
    shutil.rmtree(folder)  # the service has its own copy
    assert empty.scale(name, View.of(photo()), 1).i == 1
    with pytest.raises(ServiceError, match="two files"):
        empty.load_files([tmp_path / "config.json"])
    with pytest.raises(ServiceError, match="pickle"):
        empty.load_files([tmp_path / "config.json", tmp_path / "model.pt"])


def test_only_the_last_sent_checkpoints_are_kept(empty, tmp_path):
    folder = train_tiny(tmp_path / "sent", parts=("scale_vae",))
    names = [empty.load_files([folder / checkpoints.CONFIG, folder / checkpoints.WEIGHTS]) for _ in range(6)]
    assert empty.names() == names[-4:]
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="safetensors"):
        empty.load_files([folder / checkpoints.CONFIG, bad])
    assert empty.names() == names[-4:]


def test_description(service):
    told = service.describe("tiny")
    model = service.checkpoint("tiny").model
    assert told["parts"] == {
        part: sum(p.numel() for p in getattr(model, part).parameters())
        for part in ("scale_vae", "twin", "parallel_unet")
    }
    assert told["config"]["T"] == 8
    assert told["kind"] == "bundled"
    assert told["steps"] == {"scale_vae": 2, "twin": 2, "parallel_unet": 2}
    assert told["card"].startswith("# tiny")
    json.dumps({**told, "folder": ""})


def test_the_default_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("PIXELVIZ_RUNS", str(tmp_path / "mine"))
    assert Service(device="cpu").runs == tmp_path / "mine"
    monkeypatch.delenv("PIXELVIZ_RUNS")
    assert Service(device="cpu").runs.name == "runs"


def test_bundled_checkpoints_that_can_do_most_come_first(tmp_path):
    service = Service((ASSETS.parent / "checkpoints", tmp_path / "runs"))
    names = service.names()
    order = [
        (-len(service.find(name).parts), (ASSETS.parent / "checkpoints" / name / checkpoints.WEIGHTS).stat().st_size)
        for name in names
    ]
    assert order == sorted(order)
    assert len({parts for parts, _ in order}) > 1
    assert len({size for _, size in order}) > 1
    assert {"scale_vae", "parallel_unet"} <= set(service.find(service.names()[0]).parts)
