// SPDX-License-Identifier: Apache-2.0
// Pictures: patches, the luma structure map, colour in and out. See ref.h.
#include <math.h>
#include <stdlib.h>

#include "base/light.h"
#include "ref/ref.h"
#include "shaders/params/color.h"

static int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static double clamp1(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

void l2d_ref_similar(double sum[3], const float *p, const float *x, int pixels)
{
    sum[0] = sum[1] = sum[2] = 0;
    for (int i = 0; i < 4 * pixels; i++)
        if (i % 4 < 3) {
            sum[0] += (double) p[i] * (double) x[i];
            sum[1] += (double) p[i] * (double) p[i];
            sum[2] += (double) x[i] * (double) x[i];
        }
}

void l2d_ref_image_pack(float *x, const float *image, int h, int w, int patch, int channels,
                        bool unit)
{
    for (int y = 0; y < h / patch; y++)
        for (int px = 0; px < w / patch; px++)
            for (int n = 0; n < channels; n++, x++) {
                int dy = n / patch % patch, dx = n % patch, c = n / (patch * patch);
                float v = c < 3 ? image[((y * patch + dy) * w + px * patch + dx) * 4 + c] : -1;
                *x = unit ? (v + 1) / 2 : c < 3 ? v : 0;
            }
}

void l2d_ref_image_unpack(float *image, const float *x, int h, int w, int patch, int channels,
                          bool unit)
{
    for (int y = 0; y < h; y++)
        for (int px = 0; px < w; px++, image += 4) {
            for (int c = 0; c < 3; c++) {
                int n = (c * patch + y % patch) * patch + px % patch;
                float v = x[((y / patch) * (w / patch) + px / patch) * channels + n];
                image[c] = (float) clamp1(unit ? 2 * (double) v - 1 : (double) v, -1, 1);
            }
            image[3] = 0;
        }
}

static double luma_of(const float *rgb)
{
    return (0.299 * (double) rgb[0] + 0.587 * (double) rgb[1] + 0.114 * (double) rgb[2] + 1) / 2;
}

void l2d_ref_luma_structure(float *map, const float *rgb, int h, int w)
{
    int bh = h / 8, bw = w / 8;
    double *mean = calloc((size_t) (bh * bw) * 2, sizeof(*mean)), *blur = mean + bh * bw;
    if (!mean)
        abort();
    for (int i = 0; i < h * w; i++)
        mean[i / w / 8 * bw + i % w / 8] += luma_of(rgb + 4 * i) / 64;
    for (int i = 0; i < bh * bw; i++) {
        double sum = 0, weights = 0;
        for (int dy = -4; dy <= 4; dy++)
            for (int dx = -4; dx <= 4; dx++) {
                double g = exp(-(dx * dx + dy * dy) / (2 * 1.5 * 1.5));
                sum += g * mean[clamp(i / bw + dy, 0, bh - 1) * bw + clamp(i % bw + dx, 0, bw - 1)];
                weights += g;
            }
        blur[i] = sum / weights;
    }
    for (int i = 0; i < h * w; i++) {
        double y = (i / w + 0.5) / 8 - 0.5, x = (i % w + 0.5) / 8 - 0.5, around = 0;
        for (int corner = 0; corner < 4; corner++) {
            int by = (int) floor(y) + corner / 2, bx = (int) floor(x) + corner % 2;
            around += (1 - fabs(y - by)) * (1 - fabs(x - bx)) *
                      blur[clamp(by, 0, bh - 1) * bw + clamp(bx, 0, bw - 1)];
        }
        double luma = luma_of(rgb + 4 * i);
        double s = clamp1(0.8 * (luma - around) + 0.5 * luma + 48 / 255.0, 0, 1);
        map[4 * i] = map[4 * i + 1] = map[4 * i + 2] = (float) (2 * s - 1);
        map[4 * i + 3] = 0;
    }
    free(mean);
}

void l2d_ref_enlarge(float *y, const float *picture, int h, int w, int oh, int ow)
{
    for (int i = 0; i < oh * ow; i++, y += 4) {
        double from_x = (i % ow + 0.5) * w / ow - 0.5, from_y = (i / ow + 0.5) * h / oh - 0.5;
        double sum[3] = { 0 };
        for (int iy = (int) floor(from_y) - 1; iy <= (int) floor(from_y) + 2; iy++)
            for (int ix = (int) floor(from_x) - 1; ix <= (int) floor(from_x) + 2; ix++)
                for (int c = 0; c < 3; c++)
                    sum[c] += l2d_ref_catmull_rom(from_x - ix) * l2d_ref_catmull_rom(from_y - iy) *
                              (double) picture[4 * (clamp(iy, 0, h - 1) * w +
                                                    clamp(ix, 0, w - 1)) + c];
        for (int c = 0; c < 3; c++)
            y[c] = (float) clamp1(sum[c], -1, 1);
        y[3] = 0;
    }
}

// at, scale: luma pixels, pixel 0's centre at 0.5.
static double filtered(const struct l2d_ref_plane *p, double at_x, double at_y, double scale_x,
                       double scale_y)
{
    double cx = (at_x - p->zero_x) / p->step_x, cy = (at_y - p->zero_y) / p->step_y;
    double wx = fmax(1, scale_x / p->step_x), wy = fmax(1, scale_y / p->step_y);
    int every_x = 1 + (int) (wx / L2D_COLOR_IN_TAPS), every_y = 1 + (int) (wy / L2D_COLOR_IN_TAPS);
    double sum = 0, weights = 0;
    for (int y = (int) floor(cy - wy); y <= (int) ceil(cy + wy); y++)
        for (int x = (int) floor(cx - wx); x <= (int) ceil(cx + wx); x++) {
            if (x % every_x != 0 || y % every_y != 0)
                continue;
            double weight = fmax(0, 1 - fabs(x - cx) / wx) * fmax(0, 1 - fabs(y - cy) / wy);
            sum += weight * p->code[clamp(y, 0, p->h - 1) * p->w + clamp(x, 0, p->w - 1)];
            weights += weight;
        }
    return sum / weights / p->max;
}

void l2d_ref_color_in(float *canvas, const struct l2d_ref_color_in *p)
{
    for (int i = 0; i < p->canvas_w * p->canvas_h; i++, canvas += 4) {
        double ux = p->origin_x + (i % p->canvas_w + 0.5) * p->scale_x;
        double uy = p->origin_y + (i / p->canvas_w + 0.5) * p->scale_y;
        double x = ux, y = uy, w = p->width, h = p->height;
        for (int turn = 0; turn < p->rotation; turn++) {
            // Undo one clockwise quarter turn. The picture before it is as wide as this is high.
            double before_h = (p->rotation - turn) % 2 ? h : w;
            double bx = y, by = before_h - x;
            x = bx;
            y = by;
        }
        bool swap = p->rotation % 2 != 0;
        double v[4] = { 0, 0, 0, 1 };
        for (int c = 0; c < p->num_components; c++)
            v[c] = filtered(&p->plane[c], x, y, swap ? p->scale_y : p->scale_x,
                            swap ? p->scale_x : p->scale_y);
        double rgb[3] = { 0 };
        for (int row = 0; row < 3; row++)
            for (int c = 0; c < 4; c++)
                rgb[row] += (double) p->to_rgb[row * 4 + c] * v[c];
        if (p->light)
            l2d_light_to_sdr(p->light, rgb);
        for (int row = 0; row < 3; row++)
            canvas[row] = (float) clamp1(2 * rgb[row] - 1, -1, 1);
        canvas[3] = 0;
    }
}

static double code_at(const float *canvas, int component, const struct l2d_ref_color_out *p, int x,
                      int y)
{
    x = clamp(x, 0, p->width - 1);
    y = clamp(y, 0, p->height - 1);
    double code = (double) p->from_rgb[component * 4 + 3];
    if (x < p->x0 || x >= p->x1 || y < p->y0 || y >= p->y1)
        return code;
    int at = 4 * (clamp(y + p->crop_y, 0, p->canvas_h - 1) * p->canvas_w +
                  clamp(x + p->crop_x, 0, p->canvas_w - 1));
    double share = p->under ? (1 - p->mix) * (p->mask ? p->mask[y * p->width + x] / 255.0 : 1) : 1;
    for (int c = 0; c < 3; c++) {
        double rgb = share * clamp1(((double) canvas[at + c] + 1) / 2, 0, 1);
        if (p->under)
            rgb += (1 - share) * (double) p->under[at + c];
        code += (double) p->from_rgb[component * 4 + c] * rgb;
    }
    return code;
}

void l2d_ref_color_out(double *code, const float *canvas, int component,
                       const struct l2d_ref_color_out *p)
{
    if (!p->i420 || component == 0) {
        for (int i = 0; i < p->width * p->height; i++)
            code[i] = code_at(canvas, component, p, i % p->width, i / p->width);
        return;
    }
    int w = (p->width + 1) / 2, h = (p->height + 1) / 2;
    for (int i = 0; i < w * h; i++) {
        code[i] = 0;
        for (int dy = 0; dy < 2; dy++)
            for (int dx = -1; dx <= 1; dx++)
                code[i] += (dx ? 1 : 2) / 8.0 * code_at(canvas, component, p, 2 * (i % w) + dx,
                                                        2 * (i / w) + dy);
    }
}
