#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a machine can see of our style: no tabs, no trailing space, 100 columns (Python and the page:
# 120), a licence line, and a newline at the end of every file.
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files '*.c' '*.h' '*.comp' '*.glsl' '*.cmake' '*CMakeLists.txt' '*.py' '*.sh' \
        'tools/live2diff/web/*.html' 'tools/live2diff/web/*.css' 'tools/live2diff/web/*.js' \
        tools/setup tools/demo tools/fuzz tools/soak tools/test .ci/run)
bad=0
for file in $files; do
    [ -f "$file" ] || continue
    case $file in
        *.py | tools/soak | */web/*) width=120 ;;
        *) width=100 ;;
    esac
    awk -v file="$file" -v width=$width '
        /\t/ { print file ":" FNR ": tab"; bad = 1 }
        / $/ { print file ":" FNR ": space at the end of the line"; bad = 1 }
        length > width { print file ":" FNR ": " length " columns"; bad = 1 }
        FNR <= 2 && /SPDX-License-Identifier: Apache-2.0/ { licence = 1 }
        END {
            if (NR && !licence) { print file ": no SPDX licence line"; bad = 1 }
            exit bad
        }' "$file" >&2 || bad=1
    if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then
        echo "$file: no newline at its end" >&2
        bad=1
    fi
done
exit $bad
