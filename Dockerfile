# The recipe in a container, for a CPU or, with PyPI's torch, for a GPU (HELP.md, Containers).
#
#     docker build --tag dcase2024 .
#     docker build --tag dcase2024:cuda --build-arg TORCH_INDEX= .
#     docker run --rm --volume "$PWD:/work" dcase2024 desed-predict --help
FROM python:3.12-slim-bookworm

# Compressed audio is read with ffmpeg. Its version is that of the distribution named above.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /recipe

# The largest part first, so that it is installed again only when its requirement changes, which is
# that of pyproject.toml.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml ./
# hadolint ignore=DL3013
RUN torch="$(sed -n '/^ *"\(torch[<>=][^"]*\)".*/{s//\1/p;q;}' pyproject.toml)" \
    && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"

COPY . .
RUN pip install --no-cache-dir --editable ".[export]" \
    && python predict.py --help >/dev/null

# Any user may run it (docker run --user), also one without a name or a home folder.
ENV HOME=/tmp USER=dcase2024
WORKDIR /work
CMD ["bash"]
