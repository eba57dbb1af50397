"""One file a tab; each has `build(demo, tab, service, jobs)`, called inside its gr.Tab."""
