"""Parts of the page that several tabs use, as HTML or gradio components."""
