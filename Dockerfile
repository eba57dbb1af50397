# docker build -t pixelviz . && docker run -p 7860:7860 -v pixelviz-runs:/runs pixelviz
# For a CPU alone --build-arg INDEX=ADDRESS of PyTorch's index of such wheels: a fifth of the size.
FROM python:3.12-slim AS build
ARG INDEX=
RUN python -m venv /opt/pixelviz
WORKDIR /src
COPY requirements.txt constraints.txt ./
RUN /opt/pixelviz/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url "$INDEX"} -r requirements.txt -c constraints.txt
COPY . .
RUN /opt/pixelviz/bin/pip install --no-cache-dir .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 pixelviz && install --directory --owner pixelviz /runs
COPY --from=build /opt/pixelviz /opt/pixelviz
USER pixelviz
WORKDIR /home/pixelviz
ENV PATH=/opt/pixelviz/bin:$PATH PIXELVIZ_RUNS=/runs PYTHONUNBUFFERED=1
VOLUME /runs
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/config', timeout=8)"]
CMD ["pixelviz", "app", "--host", "0.0.0.0", "--port", "7860"]
