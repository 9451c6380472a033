# SPDX-License-Identifier: Apache-2.0
"""The consistency sampler: a linear-beta schedule, the LCM timesteps and the boundary factors.

Constants are computed in double and kept as Python floats; the update runs in the latents' dtype (fp32).
Origin: Luo et al., "Latent consistency models" (2023), diffusers LCMScheduler.
"""
import numpy as np

ORIGINAL_STEPS = 50


def alphas_cumprod(config):
    if config["beta_schedule"] != "linear":
        raise ValueError(f"scheduler: beta_schedule {config['beta_schedule']!r} is not known")
    betas = np.linspace(config["beta_start"], config["beta_end"], config["num_train_timesteps"])
    return np.cumprod(1.0 - betas)


def timesteps(config):
    """The timesteps that `t_index_list` names."""
    stride, count = config["num_train_timesteps"] // ORIGINAL_STEPS, config["num_inference_steps"]
    origin = [stride * i - 1 for i in range(ORIGINAL_STEPS, 0, -1)]
    chosen = [origin[j * ORIGINAL_STEPS // count] for j in range(count)]
    return [chosen[i] for i in config["t_index_list"]]


class Scheduler:
    """`config` is the "scheduler" section of model.json; k counts the steps kept, 0 the noisiest."""

    def __init__(self, config):
        self.timesteps = timesteps(config)
        alphas = alphas_cumprod(config)[self.timesteps]
        u = 10.0 * np.asarray(self.timesteps)
        self.a, self.b = np.sqrt(alphas).tolist(), np.sqrt(1 - alphas).tolist()
        if config["prediction"] not in ("epsilon", "v"):
            raise ValueError(f"scheduler: prediction {config['prediction']!r} is not known")
        self.predicts_v = config["prediction"] == "v"
        self.c_skip = (0.25 / (u * u + 0.25)).tolist()
        self.c_out = (u / np.sqrt(u * u + 0.25)).tolist()

    def __len__(self):
        return len(self.timesteps)

    def add_noise(self, x0, noise, k):
        return self.a[k] * x0 + self.b[k] * noise

    def epsilon(self, x, prediction, k):
        return self.a[k] * prediction + self.b[k] * x if self.predicts_v else prediction

    def step(self, x, eps, k):
        """x0 from the noise."""
        return self.c_out[k] * (x - self.b[k] * eps) / self.a[k] + self.c_skip[k] * x

    def x0(self, x, prediction, k):
        """The step's result from what the UNet predicts: the noise, or v = a noise - b x0."""
        if self.predicts_v:
            return self.c_out[k] * (self.a[k] * x - self.b[k] * prediction) + self.c_skip[k] * x
        return self.c_out[k] * (x - self.b[k] * prediction) / self.a[k] + self.c_skip[k] * x
