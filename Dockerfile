# The app with its shipped weights: CPU, not root, nothing fetched at run time.
#   docker build -t mps-ams .
#   docker run --rm -p 7860:7860 mps-ams
# With a read-only disk and accounts; only /tmp (in memory) and the volume with the annotations can be written (docs/deploy/docker.md):
#   docker run --rm -p 127.0.0.1:7860:7860 --read-only --tmpfs /tmp:size=8g --cap-drop ALL --security-opt no-new-privileges --memory 12g --pids-limit 512 \
#     -v annotations:/data mps-ams --project /data/project --login /data/people
# To open it under a host name other than localhost, add --allowed-host NAME.
# For a GPU: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    GRADIO_ANALYTICS_ENABLED=False HF_HUB_OFFLINE=1 GRADIO_TEMP_DIR=/tmp/gradio MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /app
COPY requirements.txt .
RUN grep '^torch==' requirements.txt > torch.txt \
 && pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple -r torch.txt \
 && pip install -r requirements.txt
COPY app.py ./
COPY mpsams mpsams
COPY train train
COPY weights weights
COPY results results
RUN useradd --no-create-home --home-dir /nonexistent --uid 1000 app && mkdir /data && chown app:app /data
USER app
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
