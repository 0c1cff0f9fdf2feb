# The course on an AMD card, on AMD's image of PyTorch. Not built or run here: there was no card.
#
#   docker build -t trlm .
#   docker run -it --device=/dev/kfd --device=/dev/dri --group-add video --ipc=host \
#     --security-opt seccomp=unconfined -v "$PWD/runs:/course/runs" trlm make doctor PYTHON=python3
#
# and the same with `make course PYTHON=python3`. Image and options: rocm.docs.amd.com,
# "Installing PyTorch for ROCm" (read November 2026). BASE takes another image, for example
# one that names ROCm and PyTorch versions instead of `latest`.
ARG BASE=rocm/pytorch:latest
FROM ${BASE}
WORKDIR /course
COPY . .
# pip keeps the image's torch, or stops: a torch of the package index would be the CUDA build.
RUN pip list --format=freeze | grep -i '^torch==' > keep.txt && test -s keep.txt \
    && pip install --no-cache-dir -e '.[run]' -c keep.txt
CMD ["make", "doctor", "PYTHON=python3"]
