// SPDX-License-Identifier: Apache-2.0
// Arithmetic of fit, canvas and crop. See geometry.h.
#include "pipeline/geometry.h"

#include <math.h>

#include "kernels/color.h"

static int32_t round_to(double v, int32_t multiple)
{
    int32_t n = (int32_t) lround(v / multiple) * multiple;
    int32_t most = L2D_FRAME_MAX_DIM / multiple * multiple;
    return n < multiple ? multiple : n > most ? most : n;
}

void l2d_geometry_choose_size(double shown_w, double shown_h, double area, int32_t align,
                              int32_t *width, int32_t *height)
{
    double h = sqrt(area * shown_h / shown_w);
    *width = round_to(h * shown_w / shown_h, align);
    *height = round_to(h, align);
}

struct l2d_geometry l2d_geometry_make(int32_t width, int32_t height, int32_t align, double enlarge)
{
    struct l2d_geometry g = {
        .width = width, .height = height,
        .canvas_width = (width + align - 1) / align * align,
        .canvas_height = (height + align - 1) / align * align,
        .out_width = 2 * (int32_t) lround(width * enlarge / 2),
        .out_height = 2 * (int32_t) lround(height * enlarge / 2),
    };
    g.out_canvas_width = (int32_t) lround((double) g.canvas_width * g.out_width / width);
    g.out_canvas_height = (int32_t) lround((double) g.canvas_height * g.out_height / height);
    return g;
}

void l2d_geometry_shown(const struct l2d_frame *frame, double *shown_w, double *shown_h)
{
    bool has_sar = frame->sar_num > 0 && frame->sar_den > 0;
    double w = frame->width * (has_sar ? (double) frame->sar_num / frame->sar_den : 1);
    double h = frame->height;
    bool turned = frame->rotation % 180 != 0;
    *shown_w = turned ? h : w;
    *shown_h = turned ? w : h;
}

static int32_t clamp(double v, int32_t max)
{
    return v < 0 ? 0 : v > max ? max : (int32_t) lround(v);
}

void l2d_geometry_place(const struct l2d_geometry *g, enum l2d_fit fit,
                        const struct l2d_frame *frame, struct l2d_color_rect *source,
                        struct l2d_color_out_fit *out)
{
    double shown_w, shown_h;
    l2d_geometry_shown(frame, &shown_w, &shown_h);
    bool turned = frame->rotation % 180 != 0;
    double upright_w = turned ? frame->height : frame->width;
    double upright_h = turned ? frame->width : frame->height;

    // The whole picture, in output pixels.
    double sx = g->width / shown_w, sy = g->height / shown_h;
    double s = fit == L2D_FIT_COVER ? fmax(sx, sy) : fmin(sx, sy);
    double w = fit == L2D_FIT_STRETCH ? g->width : shown_w * s;
    double h = fit == L2D_FIT_STRETCH ? g->height : shown_h * s;
    if (fit == L2D_FIT_CONTAIN) {       // bars end on whole pixels
        w = fmax(1, round(w));
        h = fmax(1, round(h));
    }
    double x = (g->width - w) / 2, y = (g->height - h) / 2;
    if (fit == L2D_FIT_CONTAIN) {
        x = floor(x);
        y = floor(y);
    }

    int32_t crop_x = (g->canvas_width - g->width) / 2;
    int32_t crop_y = (g->canvas_height - g->height) / 2;
    double larger_x = (double) g->out_width / g->width;
    double larger_y = (double) g->out_height / g->height;
    out->crop_x = (int32_t) lround(crop_x * larger_x);
    out->crop_y = (int32_t) lround(crop_y * larger_y);
    out->x0 = clamp(x * larger_x, g->out_width);
    out->y0 = clamp(y * larger_y, g->out_height);
    out->x1 = clamp((x + w) * larger_x, g->out_width);
    out->y1 = clamp((y + h) * larger_y, g->out_height);
    *source = (struct l2d_color_rect) {
        .x = (float) (-(crop_x + x) * upright_w / w),
        .y = (float) (-(crop_y + y) * upright_h / h),
        .w = (float) (g->canvas_width * upright_w / w),
        .h = (float) (g->canvas_height * upright_h / h),
    };
}
