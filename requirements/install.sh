#!/bin/sh
# Makes or updates .venv: PyTorch for this machine, the locked packages, then this project.
# Uses uv when it is there, else venv and pip.
set -eu
cd "$(dirname "$0")/.."

TORCH=2.13.0
CPU_INDEX=https://download.pytorch.org/whl/cpu
SUPPORTED='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'

main() {
    is_supported .venv/bin/python || make_environment
    install_torch
    echo "Installing the locked packages (downloads up to 350 MB) ..."
    install -r requirements/cpu.lock
    install --quiet --no-deps --no-build-isolation -e .
}

is_supported() {
    "$1" -c "$SUPPORTED" 2>/dev/null
}

has() {
    command -v "$1" >/dev/null 2>&1
}

make_environment() {
    if has uv; then
        uv venv --quiet --clear --python '>=3.11,<3.13' .venv  # uv fetches a Python if none fits
        return
    fi
    for python in python3 python3.12 python3.11; do
        if is_supported "$python"; then
            "$python" -m venv --clear .venv
            return
        fi
    done
    echo "InfiniteTalk needs Python 3.11 or 3.12, and neither is on the PATH." >&2
    exit 1
}

install() {
    if has uv; then
        uv pip install --python .venv/bin/python "$@"
        return
    fi
    # A .venv that uv made, or whose making was interrupted, has no pip.
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip
    .venv/bin/python -m pip install --disable-pip-version-check "$@"
}

# PyPI's wheel for Linux brings CUDA; without an NVIDIA GPU that is gigabytes for nothing. The CPU
# build is on PyTorch's own index, which is asked for this one package only.
install_torch() {
    if [ "$(uname -s)" != Linux ]; then
        echo "Installing PyTorch $TORCH (downloads up to 100 MB) ..."
        install --no-deps "torch==$TORCH"
    elif nvidia-smi >/dev/null 2>&1; then
        echo "Installing PyTorch $TORCH with CUDA (downloads up to 3 GB) ..."
        install "torch==$TORCH"
    elif has uv; then
        echo "Installing PyTorch $TORCH for the CPU (downloads up to 200 MB) ..."
        install --no-deps --index "$CPU_INDEX" "torch==$TORCH+cpu"
    else
        echo "Installing PyTorch $TORCH for the CPU (downloads up to 200 MB) ..."
        install --no-deps --retries 1 --extra-index-url "$CPU_INDEX" "torch==$TORCH+cpu"
    fi
}

main
