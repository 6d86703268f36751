# shellcheck shell=bash
# The engine of image/test.sh where there is no Docker: buildah as root with chroot isolation, from
# Debian's packages buildah and debootstrap. The base is a Debian made on the spot, whose Python is
# the 3.11 that the Dockerfile asks for.

BASE=localhost/infinitetalk-base
CONTAINER=infinitetalk-test
BUILDAH=(buildah --root "$STATE/storage" --runroot "$STATE/run" --storage-driver vfs)
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
RUNNING=  # process id of the container's parent

build_image() {
    make_base
    local torch source=(--build-arg "TORCH_INDEX=$CPU_INDEX")
    torch=$(sed -n 's/^TORCH=//p' requirements/install.sh)+cpu
    if [[ -n ${PIP_FIND_LINKS:-} ]]; then  # this machine's mirror: it reaches no index of PyTorch's
        source=(--build-arg TORCH_INDEX= --volume "$PIP_FIND_LINKS:/wheels:ro")
    fi
    "${BUILDAH[@]}" build --isolation chroot --tag "$IMAGE" --from "$BASE" "${source[@]}" \
        --build-arg "TORCH_VERSION=$torch" --build-arg FLASH_ATTN=none \
        --file "$BENTO/env/docker/Dockerfile" "$BENTO"
    "${BUILDAH[@]}" from --name "$CONTAINER" "$IMAGE"
}

# Debian, with the certificates that this machine trusts.
make_base() {
    local root=$STATE/root base
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root"
    cp -r /usr/local/share/ca-certificates "$root/usr/local/share/"
    TMPDIR=/tmp chroot "$root" update-ca-certificates
    base=$("${BUILDAH[@]}" from scratch)
    "${BUILDAH[@]}" add --quiet "$base" "$root" /
    "${BUILDAH[@]}" config --env "SSL_CERT_FILE=$CERTIFICATES" --env "PIP_CERT=$CERTIFICATES" \
        ${PIP_FIND_LINKS:+--env UV_FIND_LINKS=/wheels} "$base"
    "${BUILDAH[@]}" commit --quiet --rm "$base" "$BASE"
    rm -rf "$root"
}

start_container() {
    local entrypoint
    entrypoint=$("${BUILDAH[@]}" inspect --type image \
        --format '{{index .OCIv1.Config.Entrypoint 0}}' "$IMAGE")
    install -d -o 1034 -g 1034 "$STATE/data"
    # A process namespace, as every container has: killing it kills all that runs in it.
    unshare --pid --fork --kill-child "${BUILDAH[@]}" run --isolation chroot --user bentoml \
        --volume "$STATE/data:/data" --env INFINITETALK_PRESET=tiny --env "PORT=$PORT" \
        "$CONTAINER" -- "$entrypoint" >> "$STATE/container.log" 2>&1 &
    RUNNING=$!
}

kill_container() {
    kill -9 "$(pgrep --parent "$RUNNING")"  # the namespace's first process: unshare waits for all
    wait "$RUNNING" 2> /dev/null || true
}

show_log() {
    tail -n 40 "$STATE/container.log"
}

remove_container() {
    kill_container
}
