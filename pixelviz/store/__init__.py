"""The only loads and saves: checkpoints, the Hub, and peers from diffusers."""
