"""Configurations: what cannot work is refused, in words."""

from pathlib import Path

import pytest

from pixelviz.commands import learn
from pixelviz.config import (
    ConfigError,
    ModelConfig,
    TrainConfig,
    check_process,
    preset,
)
from tests.tiny import tiny_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 0.0}, "gamma must be"),
        ({"gamma": 8.0}, "below T"),
        ({"gamma": float("nan")}, "gamma"),
        ({"T": 0}, "T must be"),
        ({"T": float("inf")}, "T must be"),
        ({"T": None}, "T must be"),
        ({"floor": 0.0}, "floor"),
        ({"floor": "low"}, "floor must be a number"),
        ({"channels": 2}, "channels"),
        ({"image_size": 18}, "patches"),
        ({"vae_widths": (8,)}, "VAE levels"),
        ({"unet_widths": (8,) * 5}, "U-Net levels"),
        ({"unet_widths": ()}, "1 to 8 whole"),
        ({"unet_widths": (8, "wide")}, "unet_widths"),
        ({"latent": 10**9}, "latent must be"),
        ({"latent": 1024, "prior_components": 1024}, "67 million"),
        ({"head_target": "x"}, "v, eps"),
        ({"head_attention": "half"}, "off, full, pooled, linear, shared"),
        ({"gamma": 90.0, "T": 200}, "at most 80"),
        ({"channels": True}, "channels must be one of 1, 3; it is True"),
        ({"T": 10**5000}, "T must be a whole number from 1 to 5,000"),
        ({"T": 8.0}, "T must be a whole number"),
        ({"true_scale": 1}, "true_scale must be true or false"),
        ({"head_target": "\ud800"}, "head_target must be one of v, eps"),
        ({"vae_widths": "88"}, "vae_widths must be a list of 1 to 8"),
        ({"unet_widths": [8, [8]]}, r"unet_widths\[1\] must be a whole number"),
        ({"i_min": 0}, "i_min must be"),
        ({"i_min": 1.5}, "i_min must be"),
        ({"i_min": 0.5, "head_target": "eps"}, "needs v heads"),
        ({"scale_error": -0.1}, "scale_error must be"),
        ({"scale_error": float("nan")}, "scale_error must be"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)


def test_configuration_survives_json_and_refuses_strangers():
    config = tiny_config()
    assert (
        ModelConfig.from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in config.to_dict().items()})
        == config
    )
    with pytest.raises(ConfigError, match="unknown keys: colour"):
        ModelConfig.from_dict({**config.to_dict(), "colour": 1})
    with pytest.raises(ConfigError, match="incomplete"):
        ModelConfig.from_dict({"T": 4})
    with pytest.raises(ConfigError, match="compact"):
        preset("enormous")


def test_a_configuration_too_large_for_its_budget_is_refused_before_anything_is_built():
    """T x C x H x W of 5000 heads at 512x512 in color: 4e9 numbers, 16 GB."""
    large = {"image_size": 512, "channels": 3, "T": 5000, "patch": 16, "vae_widths": (8,) * 4}
    with pytest.raises(ConfigError, match=r"about 16 GB, most of it the T heads .*; the budget is 4 GB"):
        tiny_config(**large)
    assert tiny_config(**large | {"T": 1000}).T == 1000
    with pytest.raises(ConfigError, match="attention"):
        tiny_config(**large | {"T": 10, "head_attention": "full"})


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"parts": ("nose",)}])
def test_impossible_training_is_refused(changes):
    with pytest.raises(ConfigError):
        TrainConfig(**changes)


def test_one_step_processes_take_any_gamma():
    check_process(5.0, 1)


def test_the_paper_s_presets_are_trained_as_appendix_c_says():
    """Its learning rates, batches and iterations; what is given goes before them."""
    printed = {"cifar10": (1e-4, 128, 1_500_000), "celeba": (2e-4, 16, 1_500_000)}
    for name, (rate, batch, steps) in printed.items():
        asked = learn._asked(Path("out"), name, None, False, {}, {}, {}, {}).training
        assert (asked.learning_rate, asked.batch, asked.steps) == (rate, batch, steps)
        own = learn._asked(Path("out"), name, None, False, {}, {}, {"batch": 2}, {}).training
        assert (own.learning_rate, own.batch) == (rate, 2)
