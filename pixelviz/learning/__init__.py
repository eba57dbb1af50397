"""Training, distillation and what they cost."""
