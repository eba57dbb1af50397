"""The service without any screen: its numbers against the core's and SciPy's, and what it says to bad input."""

import json
import math

import numpy as np
import pytest
import torch

from pixelviz.process.forward import noise
from pixelviz.service import forward
from pixelviz.service.errors import friendly
from pixelviz.service.service import ServiceError
from pixelviz.view import View
from tests.served import photo, png
from tests.tiny import tiny_config

FLOOR = 4e-3


# --- forward


def curves(source, gamma, T, floor, pixels=(), seed=0, ddpm="printed"):
    """The answer of /curves."""
    settings = {"gamma": gamma, "T": T, "floor": floor, "seed": seed, "ddpm": ddpm}
    return forward.curves_json(View.of(source, pixels=pixels, **settings))


def test_snr_of_a_pixel_is_the_formula_for_the_pixel_that_was_named():
    image = photo()
    answer = curves(image, 12.0, 40, FLOOR, [[3, 5, 2], [19, 23, 0]])
    x0 = [FLOOR + (1 - FLOOR) * image[3, 5, 2] / 255, FLOOR + (1 - FLOOR) * image[19, 23, 0] / 255]
    assert answer["x0"] == pytest.approx(x0)
    assert answer["t"] == pytest.approx([i / 40 for i in range(41)])
    for pixel, values in zip(x0, answer["pixel_aware"]["snr"], strict=True):
        assert values[0] is None  # infinite
        assert values[1:] == pytest.approx([pixel**2 / (math.exp(12 * i / 40 * pixel) - 1) for i in range(1, 41)])
    bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 40))
    for pixel, values in zip(x0, answer["ddpm"]["snr"], strict=True):
        assert values[1:] == pytest.approx(pixel**2 * bar / (1 - bar))


def test_rescaled_ddpm_reaches_noise_and_the_printed_range_does_not():
    image = photo(100, 100)
    printed, rescaled = (curves(image, 12.0, 100, FLOOR, [], 0, name)["ddpm"] for name in ("printed", "rescaled"))
    bar = np.prod(1 - np.linspace(1e-4, 0.02, 100))
    wanted = 1 - bar + bar * (image[..., 0] / 255 * (1 - FLOOR)).var()
    assert printed["variance"][0][-1] == pytest.approx(wanted, rel=0.07)
    assert rescaled["variance"][0][-1] == pytest.approx(1, rel=0.07)
    assert wanted < 0.8


def test_moments_are_those_of_every_pixel_that_the_screen_shows():
    """Of both methods with one noise: each pixel's x_i in the closed form, counted one by one."""
    view = View.of(photo(), gamma=12.0, T=30, floor=FLOOR, seed=7, ddpm="printed")
    answer = forward.curves_json(view)
    x0 = FLOOR + (1 - FLOOR) * photo().transpose(2, 0, 1) / 255
    eps = next(noise(7, x0.shape, 1)).numpy()
    betas = np.linspace(1e-4, 0.02, 30)
    for i in (0, 1, 17, 30):
        for method, bar in {"pixel_aware": np.exp(-12 * x0 * i / 30), "ddpm": np.prod(1 - betas[:i])}.items():
            x = np.sqrt(bar) * x0 + np.sqrt(1 - bar) * eps
            found = answer[method]
            np.testing.assert_allclose([mean[i] for mean in found["mean"]], x.mean((1, 2)), rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose([variance[i] for variance in found["variance"]], x.var((1, 2)), rtol=1e-10)


def test_mean_and_variance_follow_the_expectation_of_a_uniform_image():
    image = np.full((100, 100), 128, np.uint8)
    answer = curves(image, 10.0, 20, FLOOR, [[0, 0, 0]])
    x0, t = answer["x0"][0], np.array(answer["t"])
    assert answer["pixel_aware"]["mean"][0] == pytest.approx(x0 * np.exp(-10 * x0 * t / 2), abs=0.05)
    assert answer["pixel_aware"]["variance"][0] == pytest.approx(1 - np.exp(-10 * x0 * t), abs=0.06)
    assert len(answer["ddpm"]["mean"]) == 1


def test_pixels_of_larger_pictures_are_counted_in_the_shrunk_one_and_the_notes_say_so():
    image = np.zeros((300, 512, 3), np.uint8)
    image[:, 256:] = 255
    answer = curves(image, 3.0, 4, FLOOR, [[149, 255, 0]])
    assert answer["image"] == {"rows": 150, "columns": 256, "channels": 3}
    assert answer["x0"] == pytest.approx([1.0], abs=0.02)
    assert any("512x300" in note and "256x150" in note for note in answer["notes"])
    assert any("counted in the shrunk picture" in note for note in answer["notes"])
    with pytest.raises(ServiceError, match=r"row .* from 0 to 149"):
        curves(image, 3.0, 4, FLOOR, [[150, 0, 0]])
    assert curves(np.zeros((256, 256), np.uint8), 1.0, 2, FLOOR, [[255, 255, 0]])["notes"] == []


def test_one_step_one_pixel():
    answer = curves(np.array([[255]], np.uint8), 0.5, 1, FLOOR, [[0, 0, 0]])
    assert answer["pixel_aware"]["snr"] == [[None, pytest.approx(1 / (math.exp(0.5) - 1))]]
    assert answer["pixel_aware"]["variance"] == [pytest.approx([0, 0], abs=1e-15)]
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "upload one"),
        ({"source": b"hello, this is text"}, "text file"),
        ({"source": png(photo())[:200]}, "damaged"),
        ({"gamma": math.nan}, "gamma must be a number"),
        ({"gamma": math.inf}, "gamma must be a number"),
        ({"gamma": "20"}, "gamma must be a number"),
        ({"gamma": True}, "gamma must be a number"),
        ({"gamma": [20]}, "gamma must be a number"),
        ({"gamma": -1.0}, "greater than 0"),
        ({"gamma": 200.0}, "below T"),
        ({"T": 10**9}, "T must be a whole number from 1 to 5,000"),
        ({"T": 20.5}, "T must be a whole number"),
        ({"T": None}, "T must be a whole number"),
        ({"T": math.inf}, "T must be a whole number"),
        ({"floor": 0}, "floor must lie"),
        ({"floor": 1.0}, "floor must lie"),
        ({"floor": math.nan}, "floor must be a number"),
        ({"pixels": [[20, 0, 0]]}, "row .* from 0 to 19"),
        ({"pixels": [[0, 24, 0]]}, "column .* from 0 to 23"),
        ({"pixels": [[0, 0, 3]]}, "channel .* from 0 to 2"),
        ({"pixels": [[-1, 0, 0]]}, "row"),
        ({"pixels": [[0.5, 0, 0]]}, "row .* whole number"),
        ({"pixels": [["0", 0, 0]]}, "row .* whole number"),
        ({"pixels": [[0, 0]]}, r"\[row, column, channel\]"),
        ({"pixels": [7]}, r"\[row, column, channel\]"),
        ({"pixels": [[0, 0, 0]] * 7}, "at most 6"),
        ({"pixels": "[[1, 2"}, "JSON"),
        ({"pixels": "hello"}, "JSON"),
        ({"pixels": "[" * 100_000}, "JSON"),
        ({"pixels": '{"row": 1}'}, "list"),
        ({"pixels": 3}, "list"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**40}, "seed"),
        ({"ddpm": "yes"}, "ddpm must be one of rescaled, printed"),
        ({"ddpm": []}, "ddpm must be one of"),
    ],
)
def test_bad_input_to_curves_is_answered_in_words(changes, message):
    settings = {"source": photo(), "gamma": 20.0, "T": 20 if "gamma" not in changes else 100, "floor": FLOOR}
    settings["gamma"] = 10.0
    with pytest.raises(ValueError, match=message) as caught:
        curves(**{**settings, **changes})
    said = friendly(caught.value)
    assert said[0].isupper()
    assert len(said) < 400
    assert "Something went wrong" not in said


def test_a_message_keeps_its_symbols():
    with pytest.raises(ServiceError) as caught:
        View.of(photo(), t=2)
    assert friendly(caught.value) == "The setting t must be a number from 0 to 1; it is 2."


def test_what_nobody_foresaw_is_logged_and_not_shown(caplog):
    said = friendly(KeyError("secret"))
    assert "secret" not in said
    assert "KeyError" in said
    assert "secret" in caplog.text
    assert "memory" in friendly(MemoryError())


def test_markup_in_bad_input_is_not_passed_on(service):
    with pytest.raises(ServiceError) as caught:
        service.scale("<img src=x onerror=alert(1)>", View.of(photo()), 1)
    assert "<" not in str(caught.value)


# --- scale


def test_scale_uses_the_networks_estimate_and_its_own_ranges(service):
    image = photo(16, 16, channels=1)
    result = service.scale("tiny", View.of(image, seed=3), 5)
    config = tiny_config()
    x0 = config.floor + (1 - config.floor) * image / 255
    np.testing.assert_allclose(result.x0[0], x0)
    np.testing.assert_allclose(result.x_delta, torch.exp(-config.gamma * result.x0))
    np.testing.assert_allclose(result.alpha_bar_hat, torch.exp(-config.gamma * result.x0_hat * 5 / config.T), rtol=1e-6)
    model = service.checkpoint("tiny").model
    with torch.no_grad(), service.compute.autocast():
        again = model.scale_vae(result.x_i[None].float(), torch.tensor([5]))
        twin = model.twin(result.x_i[None].float(), torch.tensor([5]))
    np.testing.assert_allclose(result.x_delta_hat, again[0].float().numpy(), rtol=1e-6)
    np.testing.assert_allclose(result.twin_x0_hat, twin[0].float().numpy(), rtol=1e-6)
    deviation = (result.x_i - result.alpha_bar.sqrt() * result.x0) / (1 - result.alpha_bar).sqrt()
    assert abs(deviation.mean()) < 0.25
    assert 0.7 < deviation.std() < 1.3
    assert np.abs(result.picture("x0")[..., 0].astype(int) - image).max() == 0
    assert result.picture("x_delta").shape == (16, 16, 1)
    assert result.picture("x_delta")[..., 0][image == image.min()].min() > 200  # dark pixels have the largest scale


def test_ssim_of_a_perfect_estimate_is_one_and_falls_with_an_error(service, monkeypatch):
    def perfect(error):
        def estimate(x_i, i):
            truth = x_delta.float()[None]
            return (truth * (1 + error * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)))).clamp(
                1e-6, 1
            )

        return estimate

    image = photo(16, 16, channels=1)
    x_delta = service.scale("tiny", View.of(image), 5).x_delta
    vae = service.checkpoint("tiny").model.scale_vae
    monkeypatch.setattr(vae, "forward", perfect(0.0))
    right = service.scale("tiny", View.of(image), 5)
    monkeypatch.setattr(vae, "forward", perfect(0.5))
    wrong = service.scale("tiny", View.of(image), 5)
    assert right.ssim_x_delta == pytest.approx(1, abs=1e-6)
    assert right.ssim_alpha_bar == pytest.approx(1, abs=1e-6)
    assert wrong.ssim_x_delta < 0.9
    assert wrong.ssim_alpha_bar < 0.95


def test_scale_over_i_agrees_with_scale(service):
    points = service.scale_over_i("tiny", View.of(photo(), seed=2), range(9))
    assert [point.i for point in points] == list(range(9))
    assert points[0].ssim_alpha_bar is None
    one = service.scale("tiny", View.of(photo(), seed=2), 6)
    assert points[6].ssim_x_delta == pytest.approx(one.ssim_x_delta, abs=1e-4)
    assert points[6].ssim_alpha_bar == pytest.approx(one.ssim_alpha_bar, abs=1e-4)


def test_any_upload_is_fitted_and_the_notes_say_how(service):
    notes = " ".join(service.scale("tiny", View.of(photo(40, 20)), 0).notes)
    assert "gray" in notes
    assert "middle 20x20" in notes
    assert "from 20 to 16" in notes
    assert "alpha_bar is 1 everywhere" in notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"i": 9}, "i must be a whole number from 0 to 8"),
        ({"i": -1}, "i must be"),
        ({"i": "3"}, "i must be"),
        ({"seed": 1.5}, "seed"),
        ({"source": None}, "upload one"),
        ({"name": "other"}, "there are: tiny"),
        ({"name": None}, "there are: tiny"),
        ({"name": "../checkpoints/tiny"}, "there is no checkpoint"),
        ({"name": {"a": 1}}, "there is no checkpoint"),
    ],
)
def test_bad_input_to_scale(service, changes, message):
    given = {"name": "tiny", "source": photo(), "i": 2, "seed": 0, **changes}
    with pytest.raises(ValueError, match=message):
        service.scale(given["name"], View.of(given["source"], seed=given["seed"]), given["i"])


def test_numbers_with_hundreds_of_digits_are_refused(service):
    for name in ("gamma", "T"):
        with pytest.raises(ServiceError):
            curves(photo(), **{"gamma": 20.0, "T": 200, "floor": 0.004, "pixels": [], name: 10**400})
