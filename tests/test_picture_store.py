"""A picture is decoded once whatever uses it; the store is bounded, and what gave way comes back or is told of."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pixelviz.claims import Context
from pixelviz.data import picture_store
from pixelviz.data.apart import decode_apart
from pixelviz.data.images import LEVEL_STEPS, ImageError, Picture
from pixelviz.data.picture_store import PICTURES, PictureStore
from pixelviz.export.archive import Request, export
from pixelviz.service import benches, claims, forward, scale
from pixelviz.ui import instrument
from pixelviz.view import View
from tests.served import photo, png


@pytest.fixture
def decoded(monkeypatch):
    """What was decoded, in order."""
    seen = []

    def spy(content):
        seen.append(content)
        return decode_apart(content)

    monkeypatch.setattr(picture_store, "decode_apart", spy)
    return seen


def test_an_upload_of_12_megapixels_is_decoded_once_for_all_tabs(service, decoded, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png(np.resize(photo(40, 60), (3000, 4000, 3))))
    value = json.loads(instrument.uploaded(None, str(path)))
    state = json.dumps({"picture": value["picture"], "gamma": 5.0, "T": 20, "example": None})
    json.loads(instrument.asked(None, value["picture"], 5, 1))
    forward.curves_json(View.of(path, T=20, gamma=5.0))
    for tiled in (False, True):
        service.scale("tiny", View(picture=PICTURES.keep(path)), 3, tiled=tiled)
    scale.scale_curves(service, "tiny", View(picture=value["picture"]))
    context = Context.from_state(state)
    claims.judge(context)
    dict(claims.judge_with_models(service, context, "tiny"))
    view = View.from_state(state)
    nearest = lambda figure: benches.nearest(service, view, figure)  # noqa: E731
    list(export(view, Request(("3",), ("svg",), ("csv",)), tmp_path / "a.zip", nearest))
    assert len(decoded) == 1


def test_thirty_people_who_send_one_file_have_it_decoded_once(decoded):
    content, store = png(photo(300, 400, seed=5)), PictureStore()
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(store.keep, [content] * 30))
    assert len(decoded) == len(keys) == 1


def test_the_store_is_bounded_and_what_gave_way_comes_back_from_its_file(decoded, tmp_path):
    store, paths = PictureStore(most=3 * 20 * 24 * 3 * 8), [tmp_path / f"{k}.png" for k in range(4)]
    for k, path in enumerate(paths):
        path.write_bytes(png(photo(seed=k)))
    keys = [store.keep(path) for path in paths]
    assert len(set(keys)) == 4
    assert len(store._pictures) == 3
    assert (store[keys[0]].pixels == photo(seed=0) / 255).all()
    assert len(decoded) == 5
    paths[1].write_bytes(png(photo(seed=9)))  # another picture under its name
    paths[2].unlink()
    store.keep(paths[3]), store.keep(paths[0]), store.keep(paths[1])
    for key in keys[1:3]:
        with pytest.raises(ImageError, match="upload it again"):
            store[key]


def test_a_view_outlives_its_pictures_place(monkeypatch):
    store = PictureStore(most=1)
    monkeypatch.setattr("pixelviz.view.PICTURES", store)
    view = View.of(png(photo(seed=1)))
    store.keep(png(photo(seed=2)))
    assert view.x0.shape == (3, 20, 24)
    with pytest.raises(ValueError, match="upload it again"):
        View(picture=view.picture)


@pytest.mark.parametrize("source", [None, b"words", "no such file.png", 5])
def test_what_is_no_picture_is_refused_as_ever(source):
    with pytest.raises(ImageError):
        PictureStore().keep(source)


def test_levels_are_exact_for_eight_bits_and_few_values_and_rounded_beyond(rng):
    eight, few, many = photo(64, 64) / 255, rng.choice(rng.random(300), (20, 30, 1)), rng.random((80, 90, 1))
    for pixels, off in ((eight, 0), (few, 0), (many, 0.5 / LEVEL_STEPS)):
        levels, index = Picture(pixels).levels
        assert (np.diff(levels) > 0).all()
        assert set(np.unique(index)) == set(range(len(levels)))
        assert np.abs(levels[index] - pixels.transpose(2, 0, 1)).max() <= off * (1 + 1e-9)
