#!/bin/sh
# Runs as root while the image is built, after requirements/image.lock is installed: PyTorch, then
# flash-attn against it, then the folders that volumes are mounted on. bentofile.yaml holds the
# build arguments. It is one script because a bentofile takes one; BentoML declares all build
# arguments before the first step, so separate layers would be rebuilt together anyway.
set -eu

LOCK=$BENTO_PATH/env/python/requirements.txt
export UV_HTTP_TIMEOUT=600  # seconds; CUDA's packages are large

main() {
    install_torch
    case $FLASH_ATTN in
        none) ;;
        *://*) install_flash_attn "flash-attn @ $FLASH_ATTN" ;;
        *)
            check_architectures
            install_flash_attn "flash-attn==$FLASH_ATTN"
            ;;
    esac
    uv pip check
    make_mount_points
}

install_torch() {
    uv pip install --constraint "$LOCK" ${TORCH_INDEX:+--index "$TORCH_INDEX"} \
        "torch==$TORCH_VERSION"
    python -c "import torch"
}

install_flash_attn() {
    hashed=$(mktemp)
    echo "$1 --hash=sha256:$FLASH_ATTN_SHA256" > "$hashed"
    # A build is forced: its own set-up would take whatever wheel its release page has, unchecked.
    FLASH_ATTENTION_FORCE_BUILD=TRUE uv pip install --no-deps --no-build-isolation \
        --require-hashes --requirements "$hashed"
    rm "$hashed"
    python -c "import flash_attn"
}

# flash-attn leaves out any other architecture without a word, and compiles for a guess.
check_architectures() {
    for architecture in $(echo "$FLASH_ATTN_CUDA_ARCHS" | tr ';' ' '); do
        case $architecture in
            80 | 90 | 100 | 120) ;;
            *)
                echo "FLASH_ATTN_CUDA_ARCHS is '$FLASH_ATTN_CUDA_ARCHS'; flash-attn compiles for" \
                    "80, 90, 100 and 120. An L40S (8.9) runs what is compiled for 80." >&2
                exit 1
                ;;
        esac
    done
}

# A named volume takes its owner from the folder that it is first mounted on.
make_mount_points() {
    mkdir -p "$INFINITETALK_DATA" "$INFINITETALK_WEIGHTS"
    chown bentoml:bentoml "$INFINITETALK_DATA" "$INFINITETALK_WEIGHTS"
}

main
