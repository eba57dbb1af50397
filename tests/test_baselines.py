"""The peers' samplers on Gaussian data, where the best noise prediction and the exact solution are known."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pixelviz.devices import Compute
from pixelviz.models.pixel_aware import MissingPart, PixelAwareModel
from pixelviz.samplers import SAMPLERS, ImageNoise, SamplerError, draw
from pixelviz.samplers.baselines import LINEAR, Counted, langevin_step, nearest_timesteps, quadratic_timesteps
from tests.tiny import randomised, tiny_config

CPU = Compute(torch.device("cpu"), None)
FLOOR = 0.1
MEAN, DEVIATION = 0.1, 0.2  # of the data, every pixel alike, in [-1, 1]: +-1 is 4.5 deviations away


class ExactNoise(nn.Module):
    """E[eps | x_t] for N(MEAN, DEVIATION^2) data under DDPM's betas, cut into `steps` steps (1000 is DDPM's own)."""

    def __init__(self, steps=1000, mean=MEAN):
        super().__init__()
        self.mean = mean
        factor = 1000 / steps
        betas = torch.linspace(1e-4 * factor, 0.02 * factor, steps, dtype=torch.float64)
        self.abar = torch.cumprod(1 - betas, 0)
        self.runs = 0
        if steps != 1000:
            self.scheduler = {
                "num_train_timesteps": steps,
                "beta_start": 1e-4 * factor,
                "beta_end": 0.02 * factor,
                "beta_schedule": "linear",
            }

    def forward(self, x, t):
        self.runs += 1
        abar = self.abar[t].view(-1, 1, 1, 1)
        return ((1 - abar).sqrt() * (x.double() - abar.sqrt() * self.mean) / self._variance(abar)).float()

    @staticmethod
    def _variance(abar):
        return abar * DEVIATION**2 + 1 - abar

    def flow(self, x_T):
        """Where the probability-flow ODE takes x_T: at every t, (x_t - mean_t) / deviation_t stays the same."""
        abar = self.abar[-1]
        return self.mean + DEVIATION * (x_T.double() - abar.sqrt() * self.mean) / self._variance(abar).sqrt()


class GaussianModel:
    """What a sampler sees of a model, with an exact network."""

    device = torch.device("cpu")

    def __init__(self, steps=1000, mean=MEAN):
        self.config = SimpleNamespace(shape=(1, 4, 4), floor=FLOOR, classes=())
        self.linear_twin = ExactNoise(steps, mean)

    def need(self, *parts):
        assert parts == ("linear_twin",)


def signed(x):
    """[FLOOR, 1] to [-1, 1], float64."""
    return 2 * (x.double() - FLOOR) / (1 - FLOOR) - 1


def _ends(method, passes, n=8, steps=1000, mean=MEAN):
    """x_T and x_0 in [-1, 1], and the model."""
    model = GaussianModel(steps, mean)
    states = list(draw(model, CPU, n=n, sampler=method, passes=passes, seed=1))
    return signed(states[0].x), signed(states[-1].x), model.linear_twin


def _errors(method, numbers, steps):
    errors = []
    for passes in numbers:
        x_T, x_0, network = _ends(method, passes, steps=steps)
        errors.append((x_0 - network.flow(x_T)).square().mean().sqrt().item())
    return errors


@pytest.mark.parametrize(
    ("method", "order", "numbers"),
    [("ddim", 1, (50, 100, 200, 400)), ("dpm++", 2, (20, 40, 80, 160)), ("unipc", 3, (20, 40, 80))],
)
def test_order_of_convergence(method, order, numbers):
    """Twice the steps, 2^order times less error; UniPC-2's corrector gives it one order more than its predictor has.

    The process is cut into 100,000 steps, so that rounding to whole timesteps does not hide the order.
    """
    errors = _errors(method, numbers, 100_000)
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    slope = math.log2(errors[0] / errors[-1]) / math.log2(numbers[-1] / numbers[0])
    assert abs(slope - order) < 0.25, (errors, orders)


def test_more_steps_of_ddim_are_better_where_estimates_leave_the_range():
    """Half of these data lie above 1: clipping x0_hat there would move x by as much at every step, however short."""
    errors = []
    for passes in (50, 500):
        x_T, x_0, network = _ends("ddim", passes, mean=1.0)
        errors.append((x_0 - network.flow(x_T)).square().mean().sqrt().item())
    assert errors[1] < 0.3 * errors[0]


def test_fast_solvers_are_met_at_their_best():
    """10 steps even in log SNR; with diffusers' default spacing DPM-Solver++'s error here is above 0.1."""
    for method in ("dpm++", "unipc"):
        assert _errors(method, (10,), 1000)[0] < 0.02


def test_quadratic_steps_of_ddim_are_the_formula_s():
    """Song et al. 2021a, Equation 12 with sigma = 0, on 0.8 T (k/(K-1))^2; and better than even ones on these data."""
    x_T, x_0, network = _ends("ddim-quad", 10)
    # By hand: 800 k^2 / 81, rounded down.
    steps = [800, 632, 483, 355, 246, 158, 88, 39, 9, 0]
    assert quadratic_timesteps(1000, 10) == steps
    abar = network.abar
    x = x_T
    for t, after in zip(steps, [*steps[1:], None], strict=True):
        eps = network(x, torch.full((len(x),), t)).double()
        x0 = (x - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
        x = x0 if after is None else abar[after].sqrt() * x0 + (1 - abar[after]).sqrt() * eps
    torch.testing.assert_close(x_0, x, rtol=0, atol=2e-4)
    assert _errors("ddim-quad", (10,), 1000)[0] < 0.6 * _errors("ddim", (10,), 1000)[0]


@pytest.mark.parametrize("passes", [1, 2, 10, 100, 800])
def test_quadratic_steps_are_as_many_as_asked_for(passes):
    steps = quadratic_timesteps(1000, passes)
    assert len(set(steps)) == passes
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 800


@pytest.mark.parametrize("method", ["dpm++", "unipc"])
def test_clipped_solvers_stay_in_the_range_and_are_the_same_inside(method):
    inside = [_ends(name, 10)[1] for name in (method, f"{method}-clip")]
    torch.testing.assert_close(*inside, rtol=0, atol=2e-3)  # the estimates here are 4 deviations inside the range
    free, clipped = (_ends(name, 10, mean=1.0)[1] for name in (method, f"{method}-clip"))
    assert (free > 1.05).any()  # half of these data lie above 1
    assert clipped.max() <= 1 + 1e-4
    assert (clipped[free < 0.9] < 1).all()


@pytest.mark.parametrize("method", ["ddpm", "sde-pc"])
def test_stochastic_samplers_give_the_data_s_mean_and_variance(method):
    n = 500
    _, x_0, _ = _ends(method, 1000, n=n)
    values = n * 16
    assert x_0.mean().item() == pytest.approx(MEAN, abs=4 * DEVIATION / math.sqrt(values))
    assert x_0.std().item() == pytest.approx(DEVIATION, rel=0.03)  # beta-tilde leaves it 2 % narrow
    assert abs(torch.corrcoef(x_0.flatten(1)[:, :2].T)[0, 1]) < 4 / math.sqrt(n)


def test_langevin_steps_keep_the_distribution_at_their_noise_level():
    """300 steps from a distribution twice too wide: its deviation goes to that of x_t."""
    t, n = 300, 8
    network = ExactNoise()
    scheduler = SimpleNamespace(alphas_cumprod=network.abar.float(), alphas=torch.ones(1000))
    deviation = network._variance(network.abar[t]).sqrt().item()
    mean = network.abar[t].sqrt().item() * MEAN
    noise = ImageNoise(0, n)
    x = mean + 2 * deviation * noise.normal(1, 32, 32)
    counted = Counted(network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelviz.samplers.baselines.CORRECTOR_SNR", 0.1)
        for _ in range(300):
            x = langevin_step(counted, scheduler, x, t, noise.normal(1, 32, 32))
    assert counted.runs == 300
    assert x.mean().item() == pytest.approx(mean, abs=0.05 * deviation)
    assert x.std().item() == pytest.approx(deviation, rel=0.04)


@pytest.mark.parametrize(
    ("method", "passes", "evaluations"),
    [("ddpm", 20, 20), ("ddim", 10, 10), ("ddim-quad", 7, 7), ("dpm++", 7, 7), ("unipc", 10, 10), ("sde-pc", 20, 40)],
)
def test_network_evaluations_are_the_network_s_own_count(method, passes, evaluations):
    model = GaussianModel()
    states = list(draw(model, CPU, n=2, sampler=method, passes=passes))
    assert states[-1].network_evaluations == evaluations == model.linear_twin.runs
    assert len(states) == passes + 1
    assert [states[0].i, states[-1].i] == [1000, 0]
    steps = [state.i for state in states]
    assert steps == sorted(steps, reverse=True)


def _twin_model(seed=0):
    return randomised(PixelAwareModel(tiny_config(), ("linear_twin",)), seed)


PEERS = [name for name, row in SAMPLERS.items() if not row.ours]


@pytest.mark.parametrize("method", PEERS)
def test_same_seeds_same_pictures_whatever_the_batch(method):
    model, settings = _twin_model(), {"sampler": method, "passes": 5, "seed": 7}
    whole, again, part = (
        list(draw(model, CPU, **settings, **batch))[-1].x for batch in ({"n": 4}, {"n": 4}, {"n": 2, "first": 2})
    )
    assert torch.equal(whole, again)
    torch.testing.assert_close(part, whole[2:], rtol=1e-3, atol=1e-3)
    other = list(draw(model, CPU, n=4, sampler=method, passes=5, seed=8))[-1].x
    assert not torch.allclose(whole, other, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "passes", "message"),
    [
        ("ddim", 0, "between 1 and 1000"),
        ("unipc", 1001, "between 1"),
        ("ddpm", 300, "nearest is 250"),
        ("ddim", 34, "divide 1000"),
        ("ddim-quad", 801, "at most 800"),
    ],
)
def test_impossible_numbers_of_steps_are_refused(method, passes, message):
    with pytest.raises(SamplerError, match=message):
        list(draw(_twin_model(), CPU, n=1, sampler=method, passes=passes))


def test_a_model_without_a_twin_says_so():
    for method in PEERS:
        with pytest.raises(MissingPart, match="no linear_twin"):
            next(draw(randomised(PixelAwareModel(tiny_config(), ("scale_vae",))), CPU, n=1, sampler=method, passes=10))


def test_every_row_names_its_source():
    for row in SAMPLERS.values():
        assert any(character.isdigit() for character in row.citation)
        assert row.needs == (("linear_twin",) if row.start else ("scale_vae", "parallel_unet"))


def test_unipc_is_told_of_the_noise_that_x_has():
    """10 points even in log SNR from sigma_max to sigma_min; the timestep nearest to each, found by bisection."""
    from diffusers import UniPCMultistepScheduler

    solver = UniPCMultistepScheduler(**LINEAR, use_exponential_sigmas=True)
    solver.set_timesteps(10)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    log_sigma = ((1 - abar) / abar).log() / 2
    wanted = torch.linspace(log_sigma[-1], log_sigma[0], 10, dtype=torch.float64)
    above = torch.searchsorted(log_sigma, wanted).clamp(1, 999)
    nearer = (log_sigma[above] - wanted).abs() < (log_sigma[above - 1] - wanted).abs()
    assert nearest_timesteps(solver).tolist() == torch.where(nearer, above, above - 1).tolist()
    told = (log_sigma[solver.timesteps] - wanted).exp() - 1
    assert told.min() < -0.05  # what diffusers' own timesteps would have told it
