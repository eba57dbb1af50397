"""Pictures and data sets: everything enters by this door."""
