"""Classes as a condition: a model draws the class that is asked for, follows it as far as it is told, and learns it."""

import json
import shutil
import time
from collections import deque

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pixelviz import __main__ as cli
from pixelviz.config import PRESETS, ConfigError, ModelConfig, Preset, TrainConfig
from pixelviz.data.sets import load_images, to_unit
from pixelviz.devices import choose
from pixelviz.learning import losses
from pixelviz.learning.distillation import draw_pairs
from pixelviz.learning.prior import fit_prior
from pixelviz.learning.training import TrainingError, train
from pixelviz.models.pixel_aware import Told
from pixelviz.models.scale_vae import ScaleVAE
from pixelviz.samplers import SamplerError, draw, told
from pixelviz.samplers.batches import sample_images
from pixelviz.store import checkpoints
from pixelviz.store.hub import PixelAware
from tests.browser import PATIENCE, launched, served
from tests.served import train_tiny
from tests.tiny import tiny_config, tiny_images, tiny_model

CPU = choose("cpu", "float32")
NAMES = ("bright", "dark")
TINY = Preset("tiny", "Tiny", tiny_config(prior_components=4))
TRAINING = ["--batch", 32, "--learning-rate", 3e-3, "--device", "cpu", "--parts", "scale_vae,parallel_unet,linear_twin"]


def call(*arguments):
    """Run a command of the command line; gives typer's result."""
    with PRESETS.extended(TINY):
        app = cli._cli(str(arguments[0]))
        return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(one) for one in arguments])


def pictures(folder, names=NAMES, number=60):
    """A folder of classes: flat pictures with a patch, the first class's bright, the second's dark."""
    generator = np.random.default_rng(0)
    for name, (low, high) in zip(names, ((150, 250), (5, 90)), strict=True):
        (folder / name).mkdir(parents=True)
        for k in range(number):
            image = np.full((16, 16), generator.integers(low, high), np.uint8)
            image[4:8, 4:8] = generator.integers(0, 256)
            Image.fromarray(image).save(folder / name / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("classes") / "two")


@pytest.fixture(scope="module")
def run(folder):
    """A model of the two classes, trained briefly by the command line."""
    out = folder.parent / "run"
    done = call("train", "--data", folder, "--classes", "--out", out, "--preset", "tiny", "--steps", 120, *TRAINING)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Classes: bright, dark." in done.output
    return out


def brightness(model, **settings):
    """Mean of 24 images' values, 0 to 255."""
    return next(sample_images(model, CPU, 24, seed=1, **settings)).images.float().mean().item()


def between_classes(model, **settings):
    """By how much the one class is brighter than the other."""
    return brightness(model, classes="bright", **settings) - brightness(model, classes="dark", **settings)


@pytest.mark.parametrize("settings", [{"passes": 2}, {"sampler": "prior"}, {"passes": 2, "guidance": 2.0}])
def test_a_trained_model_draws_the_class_that_is_asked_for(run, monkeypatch, settings):
    """The pictures' own means are 113 apart; a model that does not listen draws the same for both."""
    model = checkpoints.load(run).model
    assert model.config.classes == NAMES
    assert between_classes(model, **settings) > 60
    monkeypatch.setattr(Told, "__init__", deaf)
    assert abs(between_classes(model, **settings)) < 20


def deaf(self, model, labels, guidance=1.0, classes=None):
    """`Told.__init__`, with the classes in turns whatever was asked for."""
    self.model, self.labels, self.guidance = model, torch.arange(len(labels)) % 2, guidance
    self.classes = torch.nn.functional.one_hot(self.labels, 2).float()


@pytest.mark.parametrize("part", ["parallel_unet", "linear_twin"])
def test_the_right_class_makes_a_network_s_error_less_and_a_wrong_one_more(run, folder, part):
    model, images = checkpoints.load(run).model, load_images(str(folder), size=16, channels=1)
    x0 = to_unit(images.images, model.config.floor)
    training = TrainConfig(parts=(part,), heads_per_step=2)
    draws = losses.draw_step(model.config, training, len(x0), torch.Generator().manual_seed(0))

    def loss(labels):
        told_so = {part: draws[part]._replace(labels=labels)}
        return losses.TrainingObjective(model, training, CPU)(x0, told_so)[0].item()

    right, none, wrong = map(loss, (images.labels, torch.full_like(images.labels, -1), 1 - images.labels))
    assert right < 0.995 * none < none < 0.995 * wrong


def test_classes_in_turns_and_at_random(run):
    model = checkpoints.load(run).model
    images = torch.cat([b.images for b in sample_images(model, CPU, 9, passes=2, classes=NAMES, batch=4)])
    means = images.float().mean((1, 2, 3))
    assert means[::2].min() > 128 > means[1::2].max()
    for k, name in ((0, "bright"), (7, "dark")):
        alone = deque(draw(model, CPU, n=1, first=k, passes=2, classes=name), 1).pop().x
        together = deque(draw(model, CPU, n=9, passes=2, classes=NAMES), 1).pop().x[k : k + 1]
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)
    found = torch.cat([b.images for b in sample_images(model, CPU, 200, sampler="prior")]).float().mean((1, 2, 3))
    assert 0.3 < (found > 128).float().mean() < 0.7


def test_what_is_learnt_is_drawn_as_often(folder):
    """Three of four pictures are bright: so are the model's."""
    images = load_images(str(folder), size=16, channels=1)
    keep = torch.cat([(images.labels == 0).nonzero()[:48, 0], (images.labels == 1).nonzero()[:16, 0]])
    vae = ScaleVAE(tiny_config(classes=NAMES))
    fit_prior(vae, images.images[keep], CPU, labels=images.labels[keep])
    torch.testing.assert_close(vae.class_shares(), torch.tensor([0.75, 0.25]))


# --- Learning


def test_pairs_remember_what_they_were_told(run):
    """Told pairs are of their class; the share that is not told is drawn by the model of all."""
    loaded = checkpoints.load(run)
    pairs = next(draw_pairs(loaded, CPU, 128, passes=2, drop=0.25))
    assert 15 <= (pairs.labels < 0).sum() <= 49  # 32 of 128, within 3.5 standard errors
    means = pairs.x0.float().mean((1, 2, 3))
    assert means[pairs.labels == 0].mean() - means[pairs.labels == 1].mean() > 0.2
    config, settings = loaded.model.config, TrainConfig(parts=("parallel_unet",), pair_share=0.5)
    generator = torch.Generator().manual_seed(0)
    labels = torch.full((64,), 1)
    draws = losses.draw_step(config, settings, 64, generator, labels)["parallel_unet"]
    x0, mixed = losses.with_pairs(config, settings, torch.full((64, 1, 16, 16), 0.5), draws, pairs, generator)
    for image, label in zip(x0[:32], mixed.labels[:32], strict=True):
        source = (pairs.x0.float() - image).abs().amax((1, 2, 3)).argmin()
        assert pairs.labels[source] == label
    assert torch.equal(mixed.labels[32:], draws.labels[32:])


def test_distilling_keeps_the_classes(run, tmp_path):
    settings = ["--pairs", 64, "--passes", 2, "--steps", 3, "--batch", 16, "--guidance", 2, "--device", "cpu"]
    done = call("distill", "--checkpoint", run, "--out", tmp_path / "sharp", *settings)
    assert done.exit_code == 0, (done.output, done.exception)
    assert between_classes(checkpoints.load(tmp_path / "sharp").model) > 60


# --- Runs


def test_a_run_that_goes_on_keeps_its_classes(run, folder, tmp_path):
    """Interrupted and resumed it is bit for bit the run that was not; nothing of the classes needs to be said again."""
    own = ["--data", folder, "--preset", "tiny", *TRAINING]
    assert call("train", "--classes", "--out", tmp_path / "whole", "--steps", 6, *own).exit_code == 0
    assert call("train", "--classes", "--out", tmp_path / "parts", "--steps", 6, *own, "--save-every", 0).exit_code == 0
    images, config = load_images(str(folder), size=16, channels=1), checkpoints.read_config(tmp_path / "whole")[0]
    settings = TrainConfig.resumed(checkpoints.read_config(tmp_path / "whole")[2].training)
    part = train(images, config, settings, tmp_path / "half", device="cpu")
    for step in part:
        if step.step == 3:
            part.close()
    done = call("train", "--out", tmp_path / "half", "--resume", "--data", folder, "--device", "cpu")
    assert done.exit_code == 0, (done.output, done.exception)
    assert checkpoints.read_config(tmp_path / "half")[0].classes == NAMES
    whole, half = (checkpoints.load(tmp_path / name).model.state_dict() for name in ("whole", "half"))
    assert all(torch.equal(whole[key], half[key]) for key in whole)


def test_what_contradicts_a_run_s_classes_is_refused(run, folder, tmp_path):
    more = ["--steps", 200, "--device", "cpu", "--resume", "--out", run]
    other = pictures(tmp_path / "other", ("bright", "night"), 12)
    found = call("train", "--data", other, *more)
    assert isinstance(found.exception, TrainingError)
    assert "knows the classes bright, dark, but other has the classes bright, night" in str(found.exception)
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (folder / "dark").iterdir():
        (flat / path.name).write_bytes(path.read_bytes())
    assert "but flat has no classes" in str(call("train", "--data", flat, *more).exception)
    found = call("train", "--data", folder, "--no-classes", *more)
    assert isinstance(found.exception, ConfigError)
    assert "classes, which stay" in str(found.exception)
    found = call("train", "--data", flat, "--classes", "--out", tmp_path / "new", "--preset", "tiny", "--steps", 2)
    assert "flat has no classes; put the pictures of each class into a folder" in str(found.exception)
    assert not (tmp_path / "new").exists()


def test_classes_are_known_by_name_not_by_number(run, tmp_path):
    """Of a folder with one more class, the same name has another number."""
    images = load_images(str(pictures(tmp_path / "two", ("dark", "zebra"), 12)), size=16, channels=1)
    assert images.classes == ("dark", "zebra")
    assert images.labels_among(NAMES).tolist() == [1 if label == 0 else -1 for label in images.labels.tolist()]
    assert load_images("fashion-mnist-10k", size=28, channels=1, limit=20).classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], "different names"),
        (["<b>x</b>"], "classes"),
        (["x`y"], "classes"),
        (["tab\there"], "classes"),
        (["\u202eevil"], "classes"),
        ([""], "classes"),
        ("ab", "classes"),
        ([str(k) for k in range(1001)], "classes"),
    ],
)
def test_strangers_names_are_bounded_and_no_markup(names, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(tiny_config().to_dict() | {"classes": names})


def test_names_as_people_give_them_are_taken():
    names = ["T-shirt/top", "Müller & Söhne", "猫", "a, b"]
    assert ModelConfig.from_dict(tiny_config().to_dict() | {"classes": names}).classes == tuple(names)


# --- Drawing


def test_the_command_line_draws_a_class(run, tmp_path):
    sheet = ["--checkpoint", run, "--n", 6, "--passes", 2, "--device", "cpu"]
    for name, wanted in (("bright", lambda mean: mean > 128), ("dark", lambda mean: mean < 128)):
        out = tmp_path / f"{name}.npz"
        done = call("sample", *sheet, "--class", name, "--guidance", 1.5, "--out", out)
        assert done.exit_code == 0, (done.output, done.exception)
        assert "4 network evaluations each" in done.output
        assert all(map(wanted, np.load(out)["images"].mean((1, 2, 3))))
    found = call("sample", *sheet, "--class", "grey", "--out", tmp_path / "x.png")
    assert "there is no class 'grey'; this model has: bright, dark" in str(found.exception)


def test_python_draws_a_class(run, tmp_path):
    model = PixelAware.from_pretrained(run)
    bright, dark = (np.mean([np.asarray(image) for image in model.sample(5, classes=name)]) for name in NAMES)
    assert bright > 128 > dark
    assert [np.asarray(image).mean() > 128 for image in model.sample(3, classes=NAMES)] == [True, False, True]
    model.save_pretrained(tmp_path / "copy")
    assert PixelAware.from_pretrained(tmp_path / "copy").model.config.classes == NAMES
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "Classes: `bright`, `dark`." in card
    assert 'classes="bright"' in card
    with pytest.raises(SamplerError, match="this model has: bright, dark"):
        model.sample(1, classes="grey")


@pytest.fixture(scope="module")
def service(run):
    """A service with the model of classes and one without."""
    from pixelviz.service.service import Service

    train_tiny(run.parent / "checkpoints" / "tiny")
    (run.parent / "runs").mkdir()
    (run.parent / "runs" / "two").symlink_to(run)
    return Service([run.parent / "checkpoints", run.parent / "runs"], device="cpu")


def test_the_service_draws_a_class_and_gives_its_command(service, tmp_path, monkeypatch):
    from pixelviz.service.generation import Settings, sample_command

    asked = {"n": 3, "passes": 2, "seed": 4, "classes": "dark", "guidance": 1.5}
    *_, made = service.generate("two", **asked)
    assert made.images.mean((1, 2, 3)).max() < 128
    assert made.network_evaluations == 4
    assert Settings(**asked).runs == 4
    line = sample_command(service.find("two"), 3, "2", "consistent", "parallel", 4, "dark", 1.5)
    assert "--class dark --guidance 1.5" in line
    assert "--class" not in sample_command(service.find("two"), 3, "2", "consistent", "parallel", 4, "", 1)
    model = service.checkpoint("two").model
    wanted = next(sample_images(model, service.compute, 3, passes=2, seed=4, classes="dark", guidance=1.5)).images
    assert np.abs(made.images.astype(int) - wanted.permute(0, 2, 3, 1).numpy()).max() <= 1
    with pytest.raises(SamplerError, match="this model has: bright, dark"):
        service.generate("two", 1, classes="grey")
    with pytest.raises(SamplerError, match="trained without classes"):
        service.generate("tiny", 1, classes="dark")
    *_, any_class = service.generate("tiny", 1, classes="", guidance=1)
    assert any_class.done


def test_a_corner_is_the_sample_of_its_class(service):
    model = service.checkpoint("two").model
    for classes, guidance in (("dark", 1.0), (None, 2.0)):
        settings = {"sampler": "rotation", "seed": 3, "classes": classes, "guidance": guidance}
        wanted = next(sample_images(model, service.compute, 3, **settings)).images.permute(0, 2, 3, 1).numpy()
        for k in range(3):
            found = service.between("two", 3, [0, 1, 2], [float(k == one) for one in range(3)], classes, guidance)
            assert np.abs(found.image.astype(int) - wanted[k]).max() <= 3  # of products in bfloat16, where there are


def test_a_pair_of_classes_is_told_as_a_mixture():
    """Half way between two corners of two classes the network hears both."""
    model = tiny_model(classes=NAMES)
    half = torch.tensor([[0.5, 0.5]])
    x, x_delta, i = torch.randn(1, 1, 16, 16), torch.full((1, 1, 16, 16), 0.2), torch.tensor([5])
    code = model.parallel_unet.class_code
    torch.testing.assert_close(code(half)[0], code.weight.mean(1))
    heads = torch.tensor([5])
    mixed = Told(model, torch.tensor([0]), 1.0, half).parallel_unet(x, x_delta, i, heads)
    for k in (0, 1):
        assert (mixed - Told(model, torch.tensor([k])).parallel_unet(x, x_delta, i, heads)).abs().max() > 1e-3


@pytest.fixture(scope="module")
def client(service):
    from gradio_client import Client

    from pixelviz.service.jobs import TrainingJobs
    from pixelviz.ui.app import build_app

    jobs = TrainingJobs(service)
    app = build_app(service, jobs)
    app.launch(prevent_thread_lock=True, quiet=True)
    yield Client(app.local_url, verbose=False)
    jobs.stop()
    app.close()


def test_the_api_draws_a_class(client):
    images, answer = client.predict("two", n=2, passes=2, class_name="dark", guidance=2, api_name="/generate")
    assert answer["classes"] == "dark"
    assert answer["network_evaluations"] == 4
    assert len(images) == 2
    with pytest.raises(Exception, match="this model has: bright, dark"):
        client.predict("two", n=1, class_name="grey", api_name="/generate")
    json.dumps(answer)


def learnt(client, **asked):
    """The status at the end of a training of two steps."""
    asked = {"preset": "tiny", "steps": 2, "batch": 4, **asked}
    client.predict(**asked, api_name="/train_start")
    ends = time.monotonic() + 60
    while (status := client.predict(api_name="/train_status"))["running"]:
        assert time.monotonic() < ends, status
        time.sleep(0.05)
    return status


def test_the_api_learns_classes(client, service, tmp_path, tiny_preset):
    """Of a zip of one folder, as people pack it, and of a folder; a run that goes on keeps its own."""
    from gradio_client import handle_file

    folder = pictures(tmp_path / "pets", number=6)
    packed = shutil.make_archive(tmp_path / "packed", "zip", tmp_path, "pets")
    done = learnt(client, pictures=handle_file(packed), classes=True)
    assert done["state"] == "finished", done
    assert service.find(done["checkpoint"]).config.classes == NAMES
    images, _ = client.predict(done["checkpoint"], n=1, class_name="dark", api_name="/generate")
    assert len(images) == 1
    more = learnt(client, data=str(folder), resume=done["checkpoint"], steps=3)
    assert more["state"] == "finished", more
    assert service.find(done["checkpoint"]).config.classes == NAMES
    assert service.find(learnt(client, data=str(folder))["checkpoint"]).config.classes == ()
    flat = learnt(client, data=str(folder / "dark"), classes=True)
    assert "Dark has no classes; put the pictures of each class into a folder of its name" in flat["error"]
    with pytest.raises(Exception, match="CelebA has no classes to be learnt"):
        client.predict(data="celeba", classes=True, api_name="/train_start")


def test_generate_offers_classes_where_there_are_any(service, run):
    """Hidden for a model without; chosen, the sheet is of that class and the command line says so."""
    with served(run.parent) as url, launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1200}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}#tab=generate&checkpoint=tiny")
        page.locator("#generate-checkpoint input").wait_for()
        page.locator(".pv-samples button").nth(15).wait_for()
        assert page.locator("#generate-class, #generate-guidance").count() == 0
        page.locator("#generate-checkpoint input").click()
        page.get_by_role("option", name="two", exact=True).click()
        page.locator("#generate-class input").click()
        offered = [
            text.split()[-1] for text in page.locator("ul [role=option]").all_inner_texts()
        ]  # a tick before the chosen
        assert offered == ["any", "bright", "dark"]
        page.get_by_role("option", name="dark").click()
        page.get_by_label("number input for Guidance").fill("2")
        page.get_by_label("number input for Guidance").press("Enter")
        page.get_by_role("button", name="Generate", exact=True).click()
        page.wait_for_function(
            "document.querySelector('#as-code textarea').value.includes('--class dark --guidance 2')"
        )
        page.get_by_role("checkbox", name="A and B").check()  # B is told nothing yet: its checkpoint has no classes
        assert page.locator("#b-class").count() == 0
        page.locator("#b-checkpoint input").click()
        page.get_by_role("option", name="two", exact=True).click()
        page.locator("#b-class").wait_for()
        page.get_by_role("checkbox", name="A and B").uncheck()
        page.get_by_role("checkbox", name="A and B").check()  # and now what A is told
        page.wait_for_function("document.querySelector('#b-class input')?.value === 'dark'")
        page.locator("#generate-checkpoint input").click()
        page.get_by_role("option", name="tiny", exact=True).click()
        page.locator("#generate-class").wait_for(state="detached")


def test_a_model_without_classes_is_what_it_was():
    """No weight more, none fewer, and a configuration of before is read."""
    before = {key: value for key, value in tiny_config().to_dict().items() if key != "classes"}
    assert ModelConfig.from_dict(before) == tiny_config()
    model = tiny_model()
    assert not [key for key in model.state_dict() if "class" in key]
    assert len(model.scale_vae.prior_mean) == model.config.prior_components
    with_classes = set(tiny_model(classes=NAMES).state_dict()) - set(model.state_dict())
    assert with_classes == {"parallel_unet.class_code.weight"}
    assert tiny_images().classes == ()
    assert told(model, None) is model
