#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every symbol that our libraries export begins with l2d_.
#     tools/check_symbols.sh BUILD_FOLDER
set -eu
build=$1
libraries=$(find "$build/runtime" "$build/pipeline" "$build/video_io" -name 'libl2d_*.a' \
            ! -name 'libl2d_ref.a')
[ -n "$libraries" ] || { echo "check_symbols: no libraries in $build" >&2; exit 1; }
# shellcheck disable=SC2086
foreign=$(nm -A --defined-only --extern-only $libraries 2>/dev/null |
          awk 'NF >= 3 && $NF !~ /^l2d_/ && $NF !~ /^__(asan|odr_asan|ubsan|tsan)/')
if [ -n "$foreign" ]; then
    echo "$foreign" >&2
    echo "check_symbols: these do not begin with l2d_" >&2
    exit 1
fi
