// SPDX-License-Identifier: Apache-2.0
// The installed library from C++: what it reads of a clip, and what it says of a model that is not
// there. Exit status 0 if that is so.
//     installed CLIP
enum u32 { i32, f32 };         // the headers leave short names to others

#include <live2diff.h>

#include <cstdio>
#include <cstring>

static int count_frames(const char *clip, l2d_error *err)
{
    l2d_reader_params params{};
    params.name = clip;
    l2d_reader *reader = nullptr;
    int count = 0;
    if (l2d_reader_create(&reader, &params, err) != L2D_OK)
        return -1;
    l2d_item item{};
    while (l2d_reader_next(reader, &item, err) == L2D_OK && item.kind != L2D_ITEM_END) {
        count += item.kind == L2D_ITEM_VIDEO;
        l2d_item_clear(&item);
    }
    l2d_reader_destroy(&reader);
    return count;
}

int main(int, char **argv)
{
    l2d_error err{};
    if (count_frames(argv[1], &err) != 10) {
        std::fprintf(stderr, "not ten frames: %s\n", err.msg);
        return 1;
    }
    l2d_stream *stream = nullptr;
    l2d_stream_params params{};
    params.engine.model = "nowhere";
    if (l2d_stream_create(&stream, &params, &err) == L2D_OK || !std::strstr(err.msg, "nowhere")) {
        std::fprintf(stderr, "a model that is not there: %s\n", err.msg);
        return 1;
    }
    return 0;
}
