# shellcheck shell=bash
# The engine of image/test.sh where Docker runs.

CONTAINER=infinitetalk-test
VOLUME=infinitetalk-test-data

build_image() {
    local base
    base=$(sed -n 's/^FROM \(\S*\) .*/\1/p' "$BENTO/env/docker/Dockerfile")
    docker buildx build --load --tag "$IMAGE" \
        --build-context "$base=docker-image://ubuntu:24.04" \
        --build-arg "TORCH_INDEX=$CPU_INDEX" --build-arg FLASH_ATTN=none \
        --file "$BENTO/env/docker/Dockerfile" "$BENTO"
    docker create --name "$CONTAINER" --publish "127.0.0.1:$PORT:3000" \
        --volume "$VOLUME:/data" --env INFINITETALK_PRESET=tiny "$IMAGE"
}

start_container() {
    docker start "$CONTAINER"
}

kill_container() {
    docker kill --signal KILL "$CONTAINER"
    docker wait "$CONTAINER"
}

show_log() {
    docker logs --tail 40 "$CONTAINER"
}

remove_container() {
    docker rm --force "$CONTAINER"
    docker volume rm "$VOLUME"
}
