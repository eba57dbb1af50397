"""Figures of models: SSIM, FID, benchmarks against the peers, and their reports."""
