"""The web page: `page` puts the tabs together, `main` serves it (the only part of the package that uses gradio)."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: nothing is ever fetched or sent
os.environ["HF_HUB_OFFLINE"] = "1"
# before numpy is imported: requests are answered side by side, one core each (``inference.cores``)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
