"""What visitors may name and send: folders of the server, and zips."""

import errno
import os
import stat
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pixelviz.checks import ServiceError
from pixelviz.service import uploads
from pixelviz.service.errors import friendly
from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.service import Service
from pixelviz.service.uploads import Folders, Uploads
from pixelviz.ui.app import build_app, launch_options
from pixelviz.ui.tabs import train
from tests.served import photo, png, train_tiny
from tests.test_jobs import wait


def zipped(path, files):
    """A zip of {name or ZipInfo: bytes}."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def link(name):
    """An entry that is a symbolic link."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


# --- folders


def test_folders_are_open_at_home_and_below_the_roots_elsewhere(tmp_path):
    for name in ("open/sub", "closed"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "open" / "way-out").symlink_to(tmp_path / "closed")
    folders = Folders([tmp_path / "open"])
    assert folders.named(f" {tmp_path / 'closed'} ", at_home=True) == tmp_path / "closed"
    for inside in ("open", "open/sub", "open/not there"):
        assert folders.named(str(tmp_path / inside), at_home=False) == tmp_path / inside
    said = set()
    for outside in ("closed", "not there", "open/../closed", "open/way-out", "opened", "~root", "~nobody-at-all"):
        text = outside if outside[0] == "~" else str(tmp_path / outside)
        with pytest.raises(ServiceError) as error:
            folders.named(text, at_home=False)
        said.add(str(error.value))
    assert said == {uploads.CLOSED}
    with pytest.raises(ServiceError, match="from here no folder"):  # a proxy may hide where somebody sits
        Folders(proxied=True).named(str(tmp_path), at_home=True)
    for nothing in ("", " ", None, 3, "a\0b", "a" * 5000):
        with pytest.raises(ServiceError, match="name the folder"):
            folders.named(nothing, at_home=True)


def test_of_a_path_in_a_message_only_the_last_name_is_told():
    told = friendly(ServiceError("the file /srv/app/runs/mine/config.json is no JSON; see https://example.org/a/b"))
    assert told == "The file config.json is no JSON; see https://example.org/a/b"
    assert friendly(ServiceError(r"there is no C:\Users\me\x.png")) == "There is no x.png"
    assert friendly(ServiceError("3 images/s, x0/2, and/or 1/2/3")) == "3 images/s, x0/2, and/or 1/2/3"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """An app with one allowed folder: its folder, itself, and its training."""
    folder = tmp_path_factory.mktemp("app")
    train_tiny(folder / "open" / "mine")
    train_tiny(folder / "closed" / "theirs")
    service = Service([folder / "checkpoints", folder / "runs"], device="cpu", allowed=[folder / "open"])
    jobs = TrainingJobs(service)
    demo = build_app(service, jobs)
    demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield folder, demo, jobs
    demo.close()


@pytest.fixture
def app(demo):
    """Its folder, and its address."""
    return demo[0], demo[1].local_url


def through(url, **headers):
    """A client behind a proxy, or what else its headers say."""
    return Client(url, verbose=False, headers=headers or None)


def said(client, data):
    """What /train_start has against `data`."""
    with pytest.raises(AppError) as error:
        client.predict(data=str(data), steps=0, api_name="/train_start")
    return str(error.value)


def test_who_comes_through_a_proxy_is_told_nothing_of_the_disk(app):
    folder, url = app
    assert "whole number" in said(through(url), folder / "closed")  # at home: steps are what is wrong
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=1.2.3.4"}, {"Host": "evil.example:7860"}):
        client = through(url, **headers)
        assert "whole number" in said(client, folder / "open")
        assert said(client, folder / "closed") == said(client, folder / "nothing") == said(client, "/etc")
        assert "--allow-folder" in said(client, folder / "closed")


def test_a_zip_of_pictures_is_learnt(app, tmp_path):
    files = {f"train/{kind}/{k}.png": png(photo(16, 16, seed=k)) for k in range(4) for kind in ("a", "b")}
    path = zipped(tmp_path / "my pictures!.zip", files | {"__MACOSX/._0.png": b"", "notes.txt": b"hello"})
    client = through(app[1], **{"X-Forwarded-For": "1.2.3.4"})
    with pytest.raises(AppError, match="whole number"):  # its steps, not its pictures
        client.predict(pictures=handle_file(path), steps=0, api_name="/train_start")
    with pytest.raises(AppError, match="no zip"):
        client.predict(pictures=handle_file(__file__), api_name="/train_start")


def test_while_a_training_runs_no_zip_takes_its_pictures_place(demo, tmp_path, tiny_preset):
    """Neither over the API nor from the Train tab; the running one may still be reading them."""
    _, app, jobs = demo
    path = zipped(tmp_path / "mine.zip", {f"{k}.png": png(photo(16, 16, 1, seed=k)) for k in range(12)})
    client = Client(app.local_url, verbose=False)
    client.predict(pictures=handle_file(path), preset="tiny", steps=900_000, batch=4, api_name="/train_start")
    [tab] = [event.fn for event in app.fns.values() if event.name == "start"]
    visitor = SimpleNamespace(session_hash="another")
    try:
        wait(jobs, lambda status: status.state == "running")
        kept = Path(jobs.service.uploads._root.name, "pictures")
        before = sorted(kept.iterdir())
        for _ in range(uploads.MOST_KEPT):
            with pytest.raises(AppError, match="already running"):
                client.predict(pictures=handle_file(path), api_name="/train_start")
            said, *_ = tab(train.ZIP, "", str(path), "tiny", "pixel-aware", False, train.NEW_RUN, 5, 4, 1e-3, visitor)
            assert "already running" in said
        assert sorted(kept.iterdir()) == before
    finally:
        jobs.stop()
        wait(jobs, lambda status: not status.running)


def test_one_zip_is_unpacked_at_a_time(empty, tmp_path, monkeypatch):
    jobs = TrainingJobs(empty)

    def slowly(path):
        with pytest.raises(ServiceError, match="just being started"):
            jobs.start("another", path)
        raise ServiceError("enough")

    monkeypatch.setattr(empty.uploads, "pictures", slowly)
    for _ in range(2):  # what fails makes room for the next
        with pytest.raises(ServiceError, match="enough"):
            jobs.start("me", tmp_path / "x.zip")


# --- zips


def test_pictures_are_unpacked_as_they_lie(tmp_path):
    kept = Uploads()
    data = png(photo(8, 8))
    path = zipped(
        tmp_path / "Katzen & Hunde.zip", {"cats/1.png": data, "dogs/1.PNG": data, "read.me": b"", "a/.b.png": b"x"}
    )
    folder = kept.pictures(path)
    assert folder.name == "Katzen-Hunde"
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert found == {"cats/1.png": data, "dogs/1.PNG": data}
    folders = [folder] + [kept.pictures(path) for _ in range(uploads.MOST_KEPT)]
    assert [one.exists() for one in folders] == [False] + [True] * uploads.MOST_KEPT


def test_what_is_being_unpacked_does_not_give_way(tmp_path):
    kept, path = Uploads(), zipped(tmp_path / "x.zip", {"x.png": png(photo(8, 8))})
    with kept.place("pictures", "slow") as folder:
        for _ in range(uploads.MOST_KEPT + 1):
            kept.pictures(path)
        (folder / "x.png").write_bytes(b"x")
    for _ in range(uploads.MOST_KEPT):
        kept.pictures(path)
    assert not folder.exists()
    with pytest.raises(ServiceError, match="no zip"):
        kept.pictures(Path(__file__))
    assert len(list(folder.parents[1].iterdir())) == uploads.MOST_KEPT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk to write to")
def test_a_full_disk_is_said(tmp_path):
    path = zipped(tmp_path / "x.zip", {"x.png": png(photo(8, 8))})
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.png").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:  # noqa: PT011
        uploads.unpack_pictures(path, tmp_path / "to")
    assert error.value.errno == errno.ENOSPC
    assert "no room left on the server" in friendly(error.value)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"../x.png": b"x"}, "outside of itself"),
        ({"/x.png": b"x"}, "outside of itself"),
        ({"a/../../x.png": b"x"}, "outside of itself"),
        ({"..\\x.png": b"x"}, "outside of itself"),
        ({"C:/x.png": b"x"}, "outside of itself"),
        ({link("x.png"): b"/etc/passwd"}, "a link"),
        ({"x.txt": b"x"}, "no pictures"),
        ({}, "no pictures"),
    ],
)
def test_zips_that_reach_out_are_refused(tmp_path, files, what):
    folder = tmp_path / "to"
    folder.mkdir()
    with pytest.raises(ServiceError, match=what):
        uploads.unpack_pictures(zipped(tmp_path / "bad.zip", files), folder)
    assert not list(folder.iterdir())


def test_zips_that_lie_about_their_size_are_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_BYTES", 10 * uploads.PIECE)
    path = zipped(tmp_path / "bomb.zip", {"x.png": bytes(30 * uploads.PIECE)})
    data = bytearray(path.read_bytes())
    for at in (22, data.index(uploads.ENTRY) + 24):  # uncompressed size, in the entry and in the table of contents
        data[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(data)
    with pytest.raises(ServiceError):
        uploads.unpack_pictures(path, tmp_path / "to")
    assert sum(file.stat().st_size for file in (tmp_path / "to").rglob("*")) <= 10 * uploads.PIECE
    with pytest.raises(ServiceError, match="larger than 10 MB"):
        uploads.unpack_pictures(zipped(path, {"x.png": bytes(30 * uploads.PIECE)}), tmp_path / "to")


def test_a_zip_of_too_many_files_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_FILES", 50)
    path = zipped(tmp_path / "many.zip", {f"{k}.png": b"" for k in range(51)})
    with pytest.raises(ServiceError, match="more than 50 files"):
        uploads.unpack_pictures(path, tmp_path / "to")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip" * 100, png(photo(8, 8))])
def test_what_is_no_zip_is_refused_in_words(tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ServiceError, match="no zip"):
        uploads.unpack_pictures(tmp_path / "x.zip", tmp_path / "to")


def test_a_zip_with_a_password_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", {"x.png": b"x"})
    data = bytearray(path.read_bytes())
    for at in (6, data.index(uploads.ENTRY) + 8):
        data[at] |= 1
    path.write_bytes(data)
    with pytest.raises(ServiceError, match="password"):
        uploads.unpack_pictures(path, tmp_path / "to")


@pytest.mark.parametrize("top", ["", "mine/", "a/b/"])
def test_a_checkpoint_can_be_sent_as_a_zip(empty, tmp_path, top):
    folder = train_tiny(tmp_path / "one")
    path = zipped(tmp_path / "one.zip", {f"{top}{file.name}": file.read_bytes() for file in folder.iterdir()})
    name = empty.load_files([path])
    assert empty.find(name).kind == "loaded"
    assert empty.describe(name)["card"].startswith("# one")


def test_a_zip_without_a_checkpoint_says_what_it_must_hold(empty, tmp_path):
    for files in ({"config.json": b"{}"}, {"a/config.json": b"", "b/config.json": b""}, {"x.txt": b""}):
        with pytest.raises(ServiceError, match=r"config\.json and model\.safetensors"):
            empty.load_files([zipped(tmp_path / "x.zip", files)])
    with pytest.raises(ServiceError, match="send two files"):
        empty.load_files([tmp_path / "x.zip", tmp_path / "y.zip"])
