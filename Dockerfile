# One image for web, worker, beat and migrations. Its tag fixes the Python; name the same by its digest where images are
# mirrored: docker build --build-arg PYTHON_IMAGE=registry.example/python@sha256:…
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
# Wheels only: what would need a compiler fails here, and not in production.
COPY requirements.lock /
RUN ["python", "-m", "venv", "--without-pip", "/opt/venv"]
RUN ["python", "-m", "pip", "--python", "/opt/venv/bin/python", "--no-cache-dir", "--disable-pip-version-check", \
     "install", "--require-hashes", "--only-binary", ":all:", "--requirement", "/requirements.lock"]

FROM ${PYTHON_IMAGE}
RUN ["python", "-m", "pip", "uninstall", "--yes", "--root-user-action", "ignore", "pip", "setuptools", "wheel"]
RUN ["useradd", "--uid", "10001", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "retention"]
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv
COPY gunicorn.conf.py ./
COPY migrations ./migrations
COPY app ./app

# REMAP_SIGTERM is Celery's: SIGTERM begins a soft shutdown, in which steps are finished.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLASK_APP=app \
    REMAP_SIGTERM=SIGQUIT

# Nothing is written but to /tmp: the root file system may be read-only. A volume of Fargate belongs to root, and to
# root alone, unless the image declares it: then it has the owner and the mode (1777) that the directory has here.
VOLUME ["/tmp"]
USER 10001
EXPOSE 5000
STOPSIGNAL SIGTERM

# Of web. A worker's and beat's are told where they are started.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:5000/health/live', timeout=4)"]

# Without a shell in between: the process itself gets SIGTERM.
CMD ["gunicorn", "app:create_app()", "--bind", "0.0.0.0:5000", "--workers", "2"]
