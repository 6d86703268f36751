#!/usr/bin/env bash
# `make image-test`: builds the CPU variant of the image from the Bento's own Dockerfile, starts its
# real entrypoint and sees that a killed container loses nothing. With Docker, or without (buildah).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

IMAGE=infinitetalk:test
CPU_INDEX=https://download.pytorch.org/whl/cpu
PORT=${PORT:-3210}
URL=http://127.0.0.1:$PORT
ASSETS=infinitetalk/demo/assets
STATE=$(mktemp -d)
if docker info > /dev/null 2>&1; then ENGINE=docker; else ENGINE=buildah; fi
# shellcheck source=image/docker.sh
source "image/$ENGINE.sh"

main() {
    trap clean_up EXIT
    say "Building the Bento, and its image with $ENGINE (minutes; it downloads about 1 GB)"
    build_bento
    build_image > "$STATE/build.log" 2>&1

    say "A job, from an upload to its video"
    start_container
    wait_until_ready
    finished=$(submit)
    wait_for completed "$finished"
    download "$finished" before.mp4

    say "kill -9 of the container while a second job runs, and a restart"
    interrupted=$(submit)
    wait_for in_progress "$interrupted"
    kill_container
    start_container
    wait_until_ready
    download "$finished" after.mp4
    cmp "$STATE/before.mp4" "$STATE/after.mp4"
    wait_for completed "$interrupted"
    download "$interrupted" interrupted.mp4

    say "A new job"
    new=$(submit)
    wait_for completed "$new"
    download "$new" new.mp4
    say "passed: the image serves, and the killed container lost nothing"
}

say() {
    echo "image-test: $*"
}

build_bento() {
    export BENTOML_HOME=$STATE/bentoml BENTOML_DO_NOT_TRACK=True
    mkdir "$BENTOML_HOME"
    tag=$(.venv/bin/bentoml build --output tag 2> "$STATE/build.log")
    BENTO=$(.venv/bin/bentoml get "${tag#__tag__:}" --output path)
}

wait_until_ready() {
    for _ in $(seq 60); do
        curl --silent --fail --output /dev/null "$URL/readyz" && return
        sleep 1
    done
    return 1
}

submit() {
    curl --silent --fail --form "image=@$ASSETS/portrait.png" --form "audio=@$ASSETS/speech.flac" \
        --form seed=7 "$URL/generate/submit" | value_of task_id
}

# Until the job is in that state, two minutes at most.
wait_for() {
    for _ in $(seq 240); do
        case $(curl --silent --fail "$URL/generate/status?task_id=$2" | value_of status) in
            "$1") return ;;
            completed | failed | canceled) return 1 ;;
        esac
        sleep 0.5
    done
    return 1
}

# The result of a job, which must decode to the end.
download() {
    curl --silent --fail --output "$STATE/$2" "$URL/generate/get?task_id=$1"
    frames=$(.venv/bin/python -c 'if True:
        import av, sys
        print(sum(1 for _ in av.open(sys.argv[1]).decode(video=0)))' "$STATE/$2")
    [[ $frames -gt 100 ]]  # of 4.7 s at 25 a second
}

value_of() {
    .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

clean_up() {
    status=$?
    if [[ $status != 0 ]]; then
        say "failed; the last lines of the build and of the container:"
        tail -n 40 "$STATE/build.log" || true
        show_log || true
    fi
    remove_container > /dev/null 2>&1 || true
    rm -rf "$STATE"
    exit "$status"
}

main
