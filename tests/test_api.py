"""The named endpoints as a stranger's script meets them: gradio_client against the launched app."""

import contextlib
import json
import math
import time

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from pixelviz.config import PRESETS
from pixelviz.process.formulas import PAPERS
from pixelviz.service.jobs import TrainingJobs
from pixelviz.ui import api
from pixelviz.ui.app import build_app, launch_options
from pixelviz.view import View
from tests.served import folder_of_images, photo
from tests.tiny import TINY, tiny_images


@pytest.fixture(scope="module")
def url(service):
    with PRESETS.extended(TINY):
        jobs = TrainingJobs(service)
        demo = build_app(service, jobs)
        _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
        yield address
        jobs.stop()
        demo.close()


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    with contextlib.closing(Client(url, verbose=False, download_files=tmp_path_factory.mktemp("files"))) as found:
        yield found


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo()).save(path)
    return handle_file(path)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_curves(client, image):
    answer = client.predict(
        image=image,
        gamma=12,
        T=40,
        floor=0.01,
        pixels=[[3, 5, 2], [19, 23, 0], [0, 0, 1]],
        ddpm_rescaled=False,
        api_name="/curves",
    )
    x0 = [0.01 + 0.99 * photo()[at] / 255 for at in ((3, 5, 2), (19, 23, 0), (0, 0, 1))]
    assert answer["x0"] == pytest.approx(x0)
    assert answer["t"] == pytest.approx(np.arange(41) / 40)
    bars = {
        "pixel_aware": [np.exp(-12 * x * np.arange(1, 41) / 40) for x in x0],
        "ddpm": [np.cumprod(1 - np.linspace(1e-4, 0.02, 40))] * 3,
    }
    for method, alpha_bars in bars.items():
        found = answer[method]
        assert [len(found[key]) for key in ("snr", "mean", "variance")] == [3, 3, 3]
        for x, bar, snr in zip(x0, alpha_bars, found["snr"], strict=True):
            assert snr[0] is None
            assert snr[1:] == pytest.approx(x**2 * bar / (1 - bar))
        for channel in range(3):
            pixels = 0.01 + 0.99 * photo()[..., channel] / 255
            assert len(found["mean"][channel]) == len(found["variance"][channel]) == 41
            assert found["mean"][channel][0] == pytest.approx(pixels.mean())
            assert found["variance"][channel][0] == pytest.approx(pixels.var())
    # 480 pixels: five standard errors of a mean and of a variance
    end = answer["pixel_aware"]
    assert end["mean"][0][-1] == pytest.approx(0, abs=5 / math.sqrt(480) + 0.03)
    assert end["variance"][0][-1] == pytest.approx(0.95, abs=5 * math.sqrt(2 / 480))
    assert answer["notes"] == []


def test_curves_takes_pixels_as_json_text_and_has_defaults(client, image):
    text = client.predict(image=image, pixels="[[3, 5, 2]]", api_name="/curves")
    lists = client.predict(image, 20, 200, 4e-3, [[3, 5, 2]], api_name="/curves")
    assert text == lists
    assert len(text["t"]) == 201
    middle = client.predict(image=image, api_name="/curves")
    assert middle["pixels"] == [[10, 12, 0]]
    assert client.predict(image=image, pixels=[], api_name="/curves")["ddpm"]["snr"] == []


def test_curves_of_a_larger_picture_says_where_it_counts(client, tmp_path):
    Image.new("L", (600, 300), 255).save(tmp_path / "large.png")
    answer = client.predict(image=handle_file(tmp_path / "large.png"), T=4, gamma=2, api_name="/curves")
    assert answer["image"] == {"rows": 128, "columns": 256, "channels": 1}
    assert "counted in the shrunk picture" in " ".join(answer["notes"])


def test_scale(client, service, image):
    *files, answer = client.predict(image=image, checkpoint="tiny", i=5, seed=2, api_name="/scale")
    result = service.scale("tiny", View.of(photo(), seed=2), 5)
    assert answer["i"] == 5
    assert answer["ssim_x_delta"] == pytest.approx(result.ssim_x_delta)
    assert answer["ssim_alpha_bar"] == pytest.approx(result.ssim_alpha_bar)
    assert "middle 20x20" in " ".join(answer["notes"])
    for path, which in zip(files, ("x0", "x_delta", "x_delta_hat"), strict=True):
        assert np.array_equal(read(path), result.picture(which)[..., 0])
    *_, default = client.predict(image=image, api_name="/scale")
    assert (default["checkpoint"], default["i"]) == ("tiny", 4)
    *_, start = client.predict(image=image, i=0, api_name="/scale")
    assert start["ssim_alpha_bar"] is None


def test_generate(client, service):
    files, answer = client.predict(checkpoint="tiny", n=3, passes=4, api_name="/generate")
    *_, made = service.generate("tiny", 3, 4)
    assert answer["network_evaluations"] == 4
    assert answer["seconds"] > 0
    assert answer["seconds_per_image"] == pytest.approx(answer["seconds"] / 3)
    assert len(files) == 3
    images = np.stack([read(path) for path in files])
    assert images.shape == (3, 16, 16)
    assert np.abs(images.astype(int) - made.images[..., 0]).max() <= 1
    other, _ = client.predict("tiny", 1, 1, "printed", "printed", 9, api_name="/generate")
    assert len(other) == 1
    json.dumps(answer, allow_nan=False)


def test_one_call_does_not_keep_everybody_waiting(client, monkeypatch):
    monkeypatch.setattr(api, "MOST_RUNS", 24)
    assert len(client.predict(checkpoint="tiny", n=3, passes=8, api_name="/generate")[0]) == 3
    with pytest.raises(AppError, match="at most 24 runs"):
        client.predict(checkpoint="tiny", n=4, passes=8, api_name="/generate")


def poll(client, condition, seconds=30):
    ends = time.monotonic() + seconds
    while not condition(status := client.predict(api_name="/train_status")):
        assert time.monotonic() < ends, status
        time.sleep(0.05)
    return status


def test_training(client, service, tmp_path):
    data = str(folder_of_images(tmp_path / "squares", tiny_images().images))
    begun = client.predict(data=data, preset="tiny", steps=900_000, batch=4, name="by-api", api_name="/train_start")
    assert begun["running"]
    assert begun["checkpoint"] == "by-api"
    seen = poll(client, lambda status: status["step"] > 2)
    assert seen["state"] == "running"
    assert seen["losses"]["parallel_unet/head_i"][0][0] == 1
    with pytest.raises(AppError, match="already running"):
        client.predict(preset="tiny", api_name="/train_start")
    files, _ = client.predict(checkpoint="tiny", n=1, api_name="/generate")  # meanwhile
    assert len(files) == 1
    client.predict(api_name="/train_stop")
    ended = poll(client, lambda status: not status["running"])
    assert ended["state"] == "stopped"
    files, _ = client.predict(checkpoint="by-api", n=1, api_name="/generate")
    assert len(files) == 1
    assert service.names() == ["tiny", "by-api"]


def test_the_documented_names_and_defaults(client):
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    names = {
        endpoint: [parameter["parameter_name"] for parameter in info["parameters"]]
        for endpoint, info in described.items()
    }
    assert names["/curves"][:5] == ["image", "gamma", "T", "floor", "pixels"]
    assert names["/scale"] == ["image", "checkpoint", "i", "seed", "crop"]
    assert names["/generate"] == ["checkpoint", "n", "passes", "start", "sampler", "seed", "class_name", "guidance"]
    assert names["/train_start"][:5] == ["data", "preset", "steps", "batch", "learning_rate"]
    assert names["/train_status"] == names["/train_stop"] == []
    optional = [p["parameter_has_default"] for info in described.values() for p in info["parameters"]]
    assert optional.count(False) == 2  # the two images
    assert [len(described[name]["returns"]) for name in ("/curves", "/scale", "/generate")] == [1, 4, 2]
    assert all(info["description"] for info in described.values())


@pytest.mark.parametrize(
    ("endpoint", "changes", "message"),
    [
        ("/curves", {"image": None}, "no image"),
        ("/curves", {"image": "photo.png"}, "handle_file"),
        ("/curves", {"image": 5}, "handle_file"),
        ("/curves", {"pixels": [[20, 0, 0]]}, "from 0 to 19"),
        ("/curves", {"pixels": [[0, 0, 0]] * 7}, "At most 6"),
        ("/curves", {"pixels": "[[1,"}, "JSON"),
        ("/curves", {"pixels": {"a": 1}}, "list"),
        ("/curves", {"gamma": "NaN"}, "Gamma must be a number"),
        ("/curves", {"gamma": None}, "Gamma must be a number"),
        ("/curves", {"gamma": [1, 2]}, "Gamma must be a number"),
        ("/curves", {"T": 10**12}, "T must be a whole number"),
        ("/curves", {"T": 1.5}, "T must be a whole number"),
        ("/curves", {"floor": 2}, "Floor must lie"),
        ("/scale", {"checkpoint": "../tiny"}, "There is no checkpoint"),
        ("/scale", {"checkpoint": 3}, "There is no checkpoint"),
        ("/scale", {"i": 9}, "from 0 to 8"),
        ("/scale", {"seed": -1}, "Seed must be"),
        ("/scale", {"crop": 1.5}, "Crop must be"),
        ("/scale", {"image": None}, "no image"),
        ("/generate", {"checkpoint": "/etc/passwd"}, "There is no checkpoint"),
        ("/generate", {"n": 0}, "from 1 to 256"),
        ("/generate", {"n": 257}, "from 1 to 256"),
        ("/generate", {"n": "all"}, "from 1 to 256"),
        ("/generate", {"passes": 9}, "from 1 to 8"),
        ("/generate", {"passes": 2, "sampler": "printed"}, "one pass"),
        ("/generate", {"start": "x"}, "start must be one of"),
        ("/generate", {"sampler": None}, "sampler must be one of"),
        ("/generate", {"seed": 2**64}, "Seed must be"),
        ("/generate", {"class_name": "<b>dark</b>"}, "trained without classes"),
        ("/generate", {"guidance": 21}, "from 0 to 20"),
        ("/train_start", {"steps": 0}, "Steps must be"),
        ("/train_start", {"batch": 10**6}, "Batch must be"),
        ("/train_start", {"learning_rate": -1}, "The setting learning_rate must be a number above 0"),
        ("/train_start", {"preset": "../x"}, "preset must be one of"),
        ("/train_start", {"data": "/no/such/folder"}, "Data must be"),
        ("/train_start", {"name": "../../x"}, "letters, digits"),
        ("/train_start", {"resume": "nobody"}, "There is no checkpoint"),
    ],
)
def test_bad_input_is_answered_in_words(client, image, endpoint, changes, message):
    given = {"image": image, **changes} if endpoint in ("/curves", "/scale") else changes
    with pytest.raises(AppError, match=message) as caught:
        client.predict(**given, api_name=endpoint)
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) < 400


def files(tmp_path):
    """Bad uploads: (name, content, what is said)."""
    Image.fromarray(photo(64, 64)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    return {
        "truncated.png": (whole[: len(whole) // 2], "damaged"),
        "text.png": (b"just words\n", "text file"),
        "empty.png": (b"", "empty"),
        "drawing.svg": (b"<svg xmlns='x'></svg>", "SVG"),
        "bomb.png": ((tmp_path / "bomb.png").read_bytes(), "megapixels"),
    }


def test_bad_uploads_each_get_a_message(client, tmp_path):
    for name, (content, message) in files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        for endpoint in ("/curves", "/scale"):
            with pytest.raises(AppError, match=message):
                client.predict(image=handle_file(path), api_name=endpoint)


def test_odd_but_sound_uploads_are_converted_with_a_note(client, tmp_path):
    Image.fromarray(photo(20, 24, 1).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(photo(20, 24, 4), "CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(photo(20, 24, 4), "RGBA").save(tmp_path / "glass.png")
    for name, note in {"deep.png": "16-bit", "print.jpg": "CMYK", "glass.png": "white"}.items():
        answer = client.predict(image=handle_file(tmp_path / name), T=4, gamma=2, api_name="/curves")
        assert note in " ".join(answer["notes"])


def raw(url, endpoint, data):
    """A request without gradio_client, which would have refused or uploaded some of this itself."""
    headers = {"content-type": "application/json"}
    begun = httpx.post(f"{url}gradio_api/call{endpoint}", content=json.dumps({"data": data}), headers=headers)
    begun.raise_for_status()
    return httpx.get(f"{url}gradio_api/call{endpoint}/{begun.json()['event_id']}", timeout=30).text


def test_forged_files_are_not_read(url, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "private.png")
    for forged in (
        {"path": str(tmp_path / "private.png")},
        {"path": str(tmp_path / "private.png"), "meta": {"_type": "gradio.FileData"}},
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": 5, "meta": {"_type": "gradio.FileData"}},
        {"meta": {"_type": "gradio.FileData"}},
        [str(tmp_path / "private.png")],
    ):
        said = raw(url, "/curves", [forged, 2, 4, 0.004, "[[0, 0, 0]]", 0, None, "pixel-aware", PAPERS, "printed"])
        assert "event: error" in said
        assert "snr" not in said
        assert "root:" not in said


def test_not_a_number_in_the_request_itself(url):
    said = raw(url, "/generate", ["tiny", math.nan, 1, "consistent", "parallel", 0, None, 1])
    assert "The setting n must be a whole number" in said
