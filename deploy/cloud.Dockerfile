# The service. From the root of the repository, after `pip wheel --no-deps --wheel-dir dist .`:
#   docker build -f deploy/cloud.Dockerfile -t keras-ddnn-cloud .
#   docker run -p 8000:8000 -v RUN/artifact:/artifact:ro -v TOKEN:/run/secrets/token:ro keras-ddnn-cloud
FROM python:3.11-slim

COPY dist/keras_ddnn-*.whl /tmp/
RUN pip install --no-cache-dir "$(ls /tmp/keras_ddnn-*.whl)[cloud,sign]" \
    && rm /tmp/keras_ddnn-*.whl \
    && useradd --system --uid 10001 --no-create-home ddnn

USER 10001
# What is written is written here, and nowhere else.
ENV HOME=/tmp TF_CPP_MIN_LOG_LEVEL=2
EXPOSE 8000
# Loading TensorFlow takes a while, in which nobody answers.
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "keras_ddnn.serve.cloud"]
CMD ["/artifact", "--host", "0.0.0.0", "--port", "8000", "--token-file", "/run/secrets/token"]
