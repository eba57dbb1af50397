"""Every file of the zip is opened and checked against the process, and the settings make the same view again."""

import csv
import io
import json
import sys
import zipfile
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import torch
from matplotlib.font_manager import fontManager
from PIL import Image
from pypdf import PdfReader

from pixelviz import __main__ as cli
from pixelviz.checks import ServiceError
from pixelviz.config import PARTS
from pixelviz.data.images import EXAMPLES
from pixelviz.data.picture_store import PICTURES
from pixelviz.data.pictures import frame_steps
from pixelviz.export import figures, film, paper_figures
from pixelviz.export.archive import EXTRAS, FORMATS, Request, curves_csv, export, film_frames, read_settings
from pixelviz.export.figures import FIGURES, Candidate, best_fit
from pixelviz.process.forward import empirical_moments, expected_moments, noise, trajectory
from pixelviz.progress import Progress
from pixelviz.samplers import draw
from pixelviz.service import benches
from pixelviz.service.downloads import Downloads, file_name
from pixelviz.ui.export_panel import bar
from pixelviz.view import GIF_FRAMES, IMAGE_FILE, MP4_FRAMES, ExportError, View, first_steps, shown
from tests.served import empty_service, photo, png, train_tiny
from tests.tiny import tiny_config


def small_view(**changes):
    settings = {"gamma": 6.0, "T": 30, "floor": 0.05, "seed": 3, "t": 0.4, "pixels": ((2, 3, 0), (10, 20, 2))}
    return View.of(png(photo()), **{"name": "A photo", **settings, **changes})


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with one tiny checkpoint that has every part."""
    root = tmp_path_factory.mktemp("service")
    train_tiny(root / "checkpoints" / "tiny", parts=PARTS)
    return empty_service(root)


@pytest.fixture(scope="module")
def made(service, tmp_path_factory):
    """(view, files of the zip by name, the progress that was reported)."""
    view = small_view()
    path = tmp_path_factory.mktemp("export") / "all.zip"
    progress = list(export(view, Request(), path, lambda figure: benches.nearest(service, view, figure)))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    return view, files, progress


def test_progress_counts_every_step(made):
    progress = made[2]
    assert [step.done for step in progress] == list(range(len(FIGURES) + len(EXTRAS) + 1))
    assert {step.total for step in progress} == {len(FIGURES) + len(EXTRAS)}


def test_nothing_is_missing_and_the_readme_lists_it(made):
    _, files, _ = made
    wanted = {f"figures/figure-{key}.{kind}" for key in FIGURES for kind in FORMATS}
    wanted |= {"trajectory.gif", "trajectory.mp4", "curves.csv", "settings.json"}
    assert set(files) == wanted | {IMAGE_FILE, "README.txt"}
    readme = files["README.txt"].decode()
    assert all(name in readme for name in wanted)
    assert "gamma 6" in readme


@pytest.mark.parametrize("key", FIGURES)
def test_figures_open_in_every_format(made, key):
    _, files, _ = made
    with Image.open(io.BytesIO(files[f"figures/figure-{key}.png"])) as image:
        width, height = image.size
        image.load()
        # As wide as two columns of a journal at 300 dpi, less the margin that was cut off.
        assert 0.85 * paper_figures.WIDTH * 300 < width < 1.05 * paper_figures.WIDTH * 300
        assert height > 300
        assert np.asarray(image.convert("L")).std() > 10, "an empty page"
    root = ElementTree.fromstring(files[f"figures/figure-{key}.svg"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 5
    pdf = files[f"figures/figure-{key}.pdf"]
    assert pdf.startswith(b"%PDF-")
    pages = PdfReader(io.BytesIO(pdf)).pages
    assert len(pages) == 1
    shape = float(pages[0].mediabox.width) / float(pages[0].mediabox.height)
    assert shape == pytest.approx(width / height, rel=0.01)


def test_a_figure_is_laid_out_once():
    grid = paper_figures.Grid(np.zeros((20, 16, 16, 1), np.uint8), r"Real $\bar{\alpha}_i$")
    figure = paper_figures.grids((grid, grid), 5, "a note below")
    sizes = []
    for kind in ("png", "pdf", "png"):
        stream = io.BytesIO()
        paper_figures.save_figure(figure, stream, kind)
        if kind == "png":
            sizes.append(Image.open(stream).size)
    assert sizes[0] == sizes[1]


def words(files, key):
    return PdfReader(io.BytesIO(files[f"figures/figure-{key}.pdf"])).pages[0].extract_text()


def test_figures_name_their_checkpoint_and_settings(made):
    _, files, _ = made
    for key in FIGURES:
        assert ("checkpoint tiny" in words(files, key)) == bool(FIGURES[key].needs)
    assert "DDPM" in words(files, "2")
    assert "linear-beta twin, every 2nd of 1000 steps" in words(files, "8").replace("\n", " ")
    assert "squares" in words(files, "12")
    assert all(f"i = {i}" in words(files, "1").replace("=", " = ").replace("  ", " ") for i in (5, 30))


def test_the_gif_runs_from_the_image_to_noise(made):
    view, files, _ = made
    with Image.open(io.BytesIO(files["trajectory.gif"])) as gif:
        assert gif.n_frames == len(frame_steps(view.T, GIF_FRAMES)) == 31
        assert gif.info["loop"] == 0
        first = np.asarray(gif.convert("RGB")).astype(int)
        gif.seek(gif.n_frames - 1)
        last = np.asarray(gif.convert("RGB")).astype(int)
    wanted = film_frames(view, GIF_FRAMES, 176)
    assert first.shape[:2] == wanted[0].size[::-1]
    assert np.abs(first - np.asarray(wanted[0])).mean() < 12  # 128 colours
    assert np.abs(first - last).mean() > 20


def test_the_mp4_decodes_to_the_same_frames(made):
    view, files, _ = made
    with av.open(io.BytesIO(files["trajectory.mp4"])) as container:
        track = container.streams.video[0]
        assert track.codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    wanted = film_frames(view, MP4_FRAMES, 320)
    assert len(frames) == len(wanted) + 2 * film.HOLD - 2
    assert frames[0].shape == (*wanted[0].size[::-1], 3)
    assert all(side % 2 == 0 for side in wanted[0].size)
    for found, frame in ((frames[0], wanted[0]), (frames[-1], wanted[-1])):
        assert np.abs(found - np.asarray(frame)).mean() < 16
    assert np.abs(frames[0] - frames[-1]).mean() > 20


def test_a_frame_holds_both_pictures_and_the_time():
    left, right = np.full((8, 6, 3), 200, np.uint8), np.full((8, 6, 1), 40, np.uint8)
    frame = np.asarray(film.compose(left, right, ("a", "b"), 5, 10, 80))
    width, height = film.panel_size(8, 6, 80)
    assert (width, height) == (60, 80)
    middle = film.HEAD + height // 2
    assert frame[middle, film.MARGIN + width // 2].tolist() == [200, 200, 200]
    assert frame[middle, 2 * film.MARGIN + width + width // 2].tolist() == [40, 40, 40]
    bar_row = frame[film.HEAD + height + 17]
    mark = (np.abs(bar_row.astype(int) - [0x6E, 0xCB, 0xE0]).sum(1) < 30).sum()
    assert mark == pytest.approx((frame.shape[1] - 2 * film.MARGIN) / 2, abs=4)
    assert film.panel_size(1000, 500, 320) == (160, 320)


def test_the_curves_are_those_of_the_process(made):
    view, files, _ = made
    rows = list(csv.DictReader(io.StringIO(files["curves.csv"].decode())))
    assert [int(row["i"]) for row in rows] == list(range(view.T + 1))
    assert float(rows[-1]["t"]) == 1
    numbers = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    i = torch.arange(view.T + 1)
    for method, schedule in view.schedules.items():
        for k, (row, column, channel) in enumerate(view.pixels):
            name = f"{method}_snr_pixel{k + 1}_r{row}_c{column}_{('red', 'green', 'blue')[channel]}"
            wanted = schedule.snr(view.x0[channel, row, column], i).numpy()
            assert numbers[name] == pytest.approx(wanted, rel=1e-12)
        measured = empirical_moments(schedule, view.x0, noise(view.seed, view.x0.shape, view.T))
        expected = expected_moments(schedule, view.x0)
        for c, colour in enumerate(("red", "green", "blue")):
            assert numbers[f"{method}_mean_{colour}"] == pytest.approx(measured.mean[:, c].numpy(), abs=1e-12)
            assert numbers[f"{method}_variance_{colour}"] == pytest.approx(measured.variance[:, c].numpy(), abs=1e-12)
            assert numbers[f"{method}_expected_mean_{colour}"] == pytest.approx(expected.mean[:, c].numpy())
            assert numbers[f"{method}_expected_variance_{colour}"] == pytest.approx(expected.variance[:, c].numpy())


def test_the_settings_make_the_same_view_again(made, tmp_path):
    view, files, _ = made
    for name in ("settings.json", IMAGE_FILE):
        (tmp_path / name).write_bytes(files[name])
    again, _ = read_settings(tmp_path / "settings.json")
    assert again.settings() == view.settings()
    assert torch.equal(again.x0, view.x0)
    assert curves_csv(again) == curves_csv(view)
    assert json.loads(files["settings.json"])["i"] == 12


def test_settings_that_are_none_are_refused(tmp_path):
    path = tmp_path / "settings.json"
    lists = json.dumps({**small_view().settings(), "figures": "12"})
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "cannot be read as settings .*holds list"),
        ("[" * 100_000, "recursion limit"),
        ('{"format": 9}', "format 9"),
        (lists, "figures must be a list of names; it is '12'"),
    ):
        path.write_text(text)
        (tmp_path / IMAGE_FILE).write_bytes(png(photo()))
        with pytest.raises(ExportError, match=message):
            read_settings(path)
    settings = small_view().settings()
    del settings["gamma"]
    with pytest.raises(ExportError, match="gamma"):
        View.from_settings(settings, png(photo()))


def test_the_walk_is_the_processes():
    view = small_view()
    states = trajectory(view.schedules["ddpm"], view.x0, noise(3, view.x0.shape, 30), [0, 30])
    seen = view.walk.frames["ddpm"]
    assert np.array_equal(seen[0], np.moveaxis(np.rint((view.x0.numpy() - 0.05) / 0.95 * 255).astype(np.uint8), 0, -1))
    wanted = np.clip((states[1].numpy() - 0.05) / 0.95, 0, 1) * 255
    assert np.abs(np.moveaxis(wanted, 0, -1) - seen[30]).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("13",),), "no figure '13'; there are: 1, 2, 3"),
        ((("1",), ("tiff",)), "no format"),
        ((("1",), ()), "at least one format"),
        (((), (), ()), "at least one figure or file"),
        (((), (), ("wav",)), "no file"),
    ],
)
def test_requests_for_nothing_are_refused(arguments, message):
    with pytest.raises(ExportError, match=message):
        Request(*arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"t": 1.5}, "from 0 to 1"), ({"gamma": 40.0}, "below T"), ({"pixels": ((99, 0, 0),)}, "row .* from 0 to 19")],
)
def test_views_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ServiceError, match=message):
        small_view(**changes)


def test_without_pixels_some_are_suggested():
    assert len(small_view(pixels=()).pointed().pixels) == 3
    assert small_view().pointed() == small_view(), "picked ones stay"


def test_an_export_that_is_left_removes_its_file_and_no_earlier_one(tmp_path):
    path = tmp_path / "left.zip"
    for earlier in (None, b"an earlier zip"):
        if earlier:
            path.write_bytes(earlier)
        steps = export(small_view(), Request((), (), ("json", "csv")), path, lambda figure: None)
        next(steps)
        assert [file.suffix for file in tmp_path.iterdir() if file != path] == [".partial"]
        steps.close()
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [earlier][: bool(earlier)]


def test_figures_are_not_drawn_with_eps_heads():
    """Figure 7 is the stable form's: a checkpoint without it must not stop the whole export, though it be nearest."""
    parts, view = ("scale_vae", "parallel_unet"), small_view()
    near = tiny_config(channels=len(view.x0), floor=view.floor, head_target="eps")
    far = tiny_config(channels=len(view.x0), floor=0.5)
    both = [Candidate("near", near, parts), Candidate("far", far, parts)]
    assert best_fit(both, parts, view) == "far"
    assert best_fit(both, ("scale_vae",), view) == "near"
    assert best_fit(both[:1], parts, view) is None


@pytest.mark.parametrize(
    "changes",
    [{"pixels": ((1.5, 2, 0),)}, {"pixels": ((1, 2),)}, {"pixels": ((True, 2, 0),)}, {"pixels": ((1, 2, "a"),)},
     {"t": "x"}, {"seed": "x"}, {"seed": 10**23}],
)  # fmt: skip
def test_a_view_of_odd_values_is_refused(changes):
    with pytest.raises(ServiceError):
        small_view(**changes)


@pytest.mark.parametrize("pixels", [5, [5], ["abc"]])
def test_settings_with_odd_pixels_are_refused(pixels):
    view = small_view()
    with pytest.raises(ServiceError):
        View.from_settings({**view.settings(), "pixels": pixels}, png(photo()))


@pytest.mark.parametrize(("rescaled", "named"), [(True, "rescaled"), (False, "printed")])
def test_settings_of_earlier_versions_say_ddpm_s_range_as_they_did(rescaled, named):
    settings = small_view().settings()
    del settings["ddpm"]
    assert View.from_settings({**settings, "ddpm_rescaled": rescaled}, png(photo())).ddpm == named


def test_without_a_checkpoint_the_zip_says_so(tmp_path):
    path = tmp_path / "bare.zip"
    list(export(small_view(), Request(("1", "7"), ("svg",), ()), path, lambda figure: None))
    with zipfile.ZipFile(path) as archive:
        assert "figures/figure-1.svg" in archive.namelist()
        assert b"needs a checkpoint with scale_vae and parallel_unet" in archive.read("figures/figure-7-missing.txt")


def test_the_nearest_checkpoint_is_chosen():
    all_parts = ("scale_vae", "parallel_unet")
    gray, low = tiny_config(floor=0.2), tiny_config(floor=0.05)
    colour = tiny_config(channels=3, floor=0.5)
    found = [
        Candidate("gray", gray, all_parts, "faces"),
        Candidate("low", low, ("scale_vae",)),
        Candidate("colour", colour, all_parts, "cifar10"),
    ]
    assert best_fit(found, ("scale_vae",), small_view()) == "colour"
    assert best_fit(found[:2], ("scale_vae",), small_view()) == "low"
    assert best_fit(found[:2], all_parts, small_view()) == "gray"
    assert best_fit(found, ("twin",), small_view()) is None
    assert best_fit(found, all_parts, small_view(), ("celeba", "faces", "cifar10")) == "gray"


def test_the_reverse_films_are_the_networks_own(service):
    """From their own starts, so whatever the picture is; the last frame is the image that the sampler draws."""
    found = benches.nearest(service, small_view(), FIGURES["8"])
    for settings, T, apart in (
        ({"passes": 8}, 8, 1),
        ({"passes": 1}, 8, 1),
        ({"sampler": "ddpm", "passes": 500}, 500, 2),
    ):
        steps = frame_steps(T, 25)
        other = View.of(png(photo(seed=9)), seed=3)
        frames, again = (figures._film(view, found, steps, T, apart, **settings) for view in (small_view(), other))
        np.testing.assert_array_equal(frames, again)
        assert len(frames) == len(steps)
        *_, last = draw(found.model, found.compute, n=1, seed=3, **settings)
        np.testing.assert_array_equal(frames[-1], shown(last.x[0].double(), found.model.config.floor))
    assert first_steps(500) == list(range(0, 100, 5))
    assert first_steps(1) == [0]


def test_one_step_and_a_flat_gray_picture(service, tmp_path):
    view = View.of(np.full((3, 5), 90, np.uint8), gamma=0.5, T=1)
    path = tmp_path / "one.zip"
    wanted = Request(("1", "2", "3", "8"), ("png",), ("gif", "mp4", "csv"))
    list(export(view, wanted, path, lambda figure: benches.nearest(service, view, figure)))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 9
        with Image.open(io.BytesIO(archive.read("trajectory.gif"))) as gif:
            assert gif.n_frames == 2


def test_the_letters_are_known_even_if_matplotlib_s_list_is_out_of_date(monkeypatch):
    monkeypatch.setattr(fontManager, "ttflist", [])
    paper_figures._add_fonts.__wrapped__()
    assert paper_figures.STYLE["font.family"] in {font.name for font in fontManager.ttflist}


# --- the command line


def test_the_command_line_exports_and_does_it_again(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pixelviz", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0

    picture, out = tmp_path / "photo.png", tmp_path / "first.zip"
    picture.write_bytes(png(photo()))
    few = ["--figures", "1", "--formats", "svg", "--extras", "csv,json", "--checkpoints", tmp_path]
    assert run("--image", picture, "--out", out, "--gamma", 5, "--T", 20, "--pixels", "[[1, 2, 0]]", *few) == 0
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "files")
        names = archive.namelist()
    assert set(names) == {IMAGE_FILE, "figures/figure-1.svg", "curves.csv", "settings.json", "README.txt"}
    again = tmp_path / "again.zip"
    assert run("--settings", tmp_path / "files" / "settings.json", "--out", again) == 0
    with zipfile.ZipFile(again) as second:
        assert second.namelist() == names
    with zipfile.ZipFile(out) as first, zipfile.ZipFile(again) as second:
        for name in names:
            assert first.read(name) == second.read(name), name
    capsys.readouterr()
    assert run("--image", picture, "--out", again, "--gamma", 50, "--T", 20) == 1
    assert "below T" in capsys.readouterr().err
    assert run("--out", again) != 0


# --- the panel's own parts


def test_downloads_are_bounded():
    downloads = Downloads(most=2)
    first = downloads.place("a", "x.zip")
    first.write_text("1")
    second = downloads.place("b", "x.zip")
    second.write_text("2")
    again = downloads.place("a", "y.zip")
    again.write_text("3")
    assert not first.exists()
    third = downloads.place("c", "z.zip")
    third.write_text("4")
    assert not second.exists(), "the oldest gives way"
    assert again.exists()
    assert third.exists()


def test_the_panel_reads_the_instrument():
    state = {"gamma": 7.5, "T": 40, "floor": 0.02, "seed": 5, "ddpm": "printed", "t": 0.25, "pixels": [[1, 2, 0]]}
    state |= {"picture": PICTURES.keep(png(photo())), "example": None, "playing": False}
    view = View.from_state(json.dumps(state))
    assert (view.gamma, view.T, view.floor, view.seed, view.ddpm, view.t) == (7.5, 40, 0.02, 5, "printed", 0.25)
    assert view.pixels == ((1, 2, 0),)
    assert file_name(view) == "pixelviz-your-picture-gamma7.5-T40.zip"
    assert (View.from_state(None).gamma, View.from_state("null").name) == (20, EXAMPLES[0][0])
    for broken, message in (("{", "damaged"), ("[1]", "names and values"), ('{"gamma": "x"}', "must be a number")):
        with pytest.raises(ValueError, match=message):
            View.from_state(broken)


def test_the_progress_bar_can_be_read_out():
    assert 'aria-valuenow="25"' in bar(Progress("Figure 2", 1, 4))
