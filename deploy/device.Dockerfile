# The device: LiteRT, without TensorFlow. From the root of the repository, after `pip wheel --no-deps --wheel-dir dist .`:
#   docker build -f deploy/device.Dockerfile -t keras-ddnn-device .
#   docker run -v RUN/artifact:/artifact:ro -v DATA.npz:/data.npz:ro -v TOKEN:/run/secrets/token:ro \
#       keras-ddnn-device /artifact --dataset /data.npz --cloud https://CLOUD \
#       --token-file /run/secrets/token --metrics-port 9100
FROM python:3.11-slim

COPY dist/keras_ddnn-*.whl /tmp/
RUN pip install --no-cache-dir "$(ls /tmp/keras_ddnn-*.whl)[edge,sign]" \
    && rm /tmp/keras_ddnn-*.whl \
    && useradd --system --uid 10001 --no-create-home ddnn

USER 10001
ENV HOME=/tmp
# Healthy while its metrics answer; they do where the command has --metrics-port 9100.
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/metrics', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "keras_ddnn.serve.edge"]
CMD ["--help"]
