"""Algorithm 1 as printed (Appendix D), so that it can be seen to diverge.

Line 9 has Eq. 4's denominator here, as Eq. 15's noises want it. To the letter (`reverse.letter_step`) it wants the
noise of each step, of which a network at x_T knows one in all.
"""

from __future__ import annotations

from collections.abc import Iterator

from pixelviz.models.pixel_aware import PixelAwareModel
from pixelviz.process.reverse import head_coefficients, printed_step
from pixelviz.samplers.common import ImageNoise, SampleStep, Start

WHY_IT_DIVERGES = """**Algorithm 1 as printed diverges, and this is why.** All T estimates come from one run, so no
later step can correct an error. The printed update multiplies it by $1/\\sqrt\\alpha$ each time: by
$e^{\\gamma x_0/2}$ over the whole way, for γ = 20 and a white pixel 22,000 times. The stable v-form shrinks errors by
$\\sqrt\\alpha$ instead."""


def printed(model: PixelAwareModel, start: Start, noise: ImageNoise, *, passes: int = 1) -> Iterator[SampleStep]:
    """One run yields Z^1..Z^T; then lines 7-11, with fresh noise at every step but none to correct it.

    Whatever error x_j has is multiplied by 1/sqrt(alpha) at every step: by e^(gamma x0 / 2) in all.
    Line 8 draws noise at j = 1 too; beta-tilde_1 = 0 makes it harmless. A model with v heads gives the
    same Z^j, E[eps_j | x_T, x_delta_hat], through its estimate of x0.

    Yields: SampleStep for i = T, ..., 0. One pass is all there is.
    """
    unet = model.parallel_unet
    config, schedule = model.config, model.schedule
    rate_x0 = model.rate_x0(start.x_delta)
    x = x_T = start.x_T
    yield SampleStep(config.T, x, 0)
    at = model.step_tensor(config.T, len(x))
    z = unet(x_T, model.scale_read(x_T, at, start.x_delta), at)
    for j in range(config.T, 0, -1):
        eps = z[:, j - 1]
        if config.head_target == "v":
            v_skip, v_out = head_coefficients(schedule, rate_x0, config.T, j)
            skip, out = head_coefficients(schedule, rate_x0, config.T, j, "eps")
            eps = skip * x_T + out * (eps - v_skip * x_T) / v_out
        x = printed_step(schedule, rate_x0, j, x, eps, noise.normal(*config.shape))
        yield SampleStep(j - 1, x, 1)
