"""A wrong shape is found where it is made: what the rooms declare with jaxtyping is checked in every test."""

import pytest
import torch
from jaxtyping import TypeCheckError

from pixelviz.models.blocks import time_code
from pixelviz.process.forward import Moments
from pixelviz.process.reverse import v_step
from pixelviz.process.schedules import PixelAware
from pixelviz.samplers import SampleStep
from tests.tiny import tiny_model

X = torch.full((2, 1, 16, 16), 0.5)
I = torch.tensor([3, 4])  # noqa: E741


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (lambda: time_code(I[:, None]), lambda: time_code(I)),
        (lambda: Moments(X[0, 0], X[0, 0, 1:]), lambda: Moments(X[0, 0], X[0, 0])),
        (lambda: SampleStep(1, X[0], 1), lambda: SampleStep(1, X, 1)),
        (
            lambda: v_step(PixelAware(8, 2.0), X, 3, X, X[..., 1:]),
            lambda: v_step(PixelAware(8, 2.0), X, 3, X[:1], X[..., :1]),
        ),
        (lambda: tiny_model().scale_vae(X, I[:1]), lambda: tiny_model().scale_vae(X, I)),
        (lambda: tiny_model().parallel_unet(X, X[:1], I), lambda: tiny_model().parallel_unet(X, X, I)),
        (
            lambda: tiny_model().parallel_unet(X, X, I, torch.ones(2)),
            lambda: tiny_model().parallel_unet(X, X, I, torch.ones(2, 1, dtype=torch.int64)),
        ),
    ],
    ids=["time code", "moments", "state", "broadcast", "images and steps", "scale", "whole heads"],
)
def test_a_wrong_shape_is_refused(wrong, right):
    right()
    with pytest.raises(TypeCheckError):
        wrong()
