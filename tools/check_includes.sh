#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Who may include whom. A row is a folder, then what its files may name in #include "..."; a folder
# may always include itself. Then: which folders alone may use which foreign headers.
set -eu
cd "$(dirname "$0")/.."
bad=0

allow() {
    folder=$1
    shift
    [ -d "$folder" ] || return 0
    pattern="^(${folder#runtime/}/"
    for other in "$@"; do
        pattern="$pattern|$other/"
    done
    pattern="$pattern)"
    found=$(grep -rHoE --include='*.[ch]' '^#include "[^"]+/[^"]*"' "$folder" |
            sed 's/#include //' | tr -d '"' |
            awk -F: -v ok="$pattern" '$2 !~ ok { print $1 " includes " $2 }')
    if [ -n "$found" ]; then
        echo "$found" >&2
        bad=1
    fi
}

only() {    # only HEADER_PATTERN FOLDER_PATTERN: no other folder's source includes such a header
    found=$(git ls-files -co --exclude-standard '*.c' '*.h' |
            xargs grep -lE "^#include <($1)" 2>/dev/null | grep -vE "^($2)" || true)
    if [ -n "$found" ]; then
        echo "$found" | sed "s|\$| includes <$1...>: only $2 may|" >&2
        bad=1
    fi
}

allow runtime/base
allow runtime/tensor base
allow runtime/gpu tensor base
allow runtime/kernels gpu tensor base shaders
allow runtime/ref base shaders
allow pipeline kernels gpu tensor base
allow video_io base
allow tools/live2diff control pipeline video_io kernels gpu tensor base
allow samples pipeline video_io gpu base
only 'vulkan/' 'runtime/gpu/'
only 'libav|libsw' 'video_io/|tests/video_io/'
only 'SDL' 'video_io/|tests/video_io/'
only 'microhttpd' 'tools/live2diff/control/'
exit $bad
