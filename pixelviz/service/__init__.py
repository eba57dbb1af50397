"""Everything the screen and the API ask for, without Gradio."""
