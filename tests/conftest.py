"""One thread per test process: beside other work, several threads on small tensors only wait for each other."""

import torch

torch.set_num_threads(1)
