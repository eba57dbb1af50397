"""The mathematics of pixel-aware diffusion, in float64; it knows no network and no screen."""
