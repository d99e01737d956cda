# Serves what `reslab export` wrote, on the CPU, without PyTorch, as a user without rights:
#   docker build -t reslab-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp -v "$PWD/mine:/model:ro" reslab-serve
FROM python:3.13-slim

COPY constraints.txt pyproject.toml README.md LICENSE /reslab/
COPY src /reslab/src
# Reslab itself without what it trains with; and what the server imports.
RUN pip install --no-cache-dir -c /reslab/constraints.txt \
        numpy pillow pydantic cyclopts rich jinja2 onnxruntime openvino \
        fastapi uvicorn python-multipart prometheus_client \
    && pip install --no-cache-dir --no-deps /reslab \
    && rm -rf /reslab

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin reslab
USER 10001
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["reslab", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
