"""The web page: `page` puts the tabs together, `main` serves it (the only part of the package that uses gradio)."""
