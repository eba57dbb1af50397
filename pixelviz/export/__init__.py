"""Files to take along: the paper's figures, films, curves and settings."""
