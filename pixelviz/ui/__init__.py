"""The screen and the API: they carry data between people and the core, and compute nothing themselves."""
