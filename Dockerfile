# atypia predict and atypia serve: docs/deploy.md. The network is needed while the image is built, and not when it runs.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home --home-dir /var/lib/atypia --shell /usr/sbin/nologin atypia
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-compile /wheels/atypia-*.whl
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/var/lib/atypia ATYPIA_HOME=/var/lib/atypia
USER 10001
WORKDIR /var/lib/atypia
EXPOSE 8470
ENTRYPOINT ["atypia"]
CMD ["--help"]
