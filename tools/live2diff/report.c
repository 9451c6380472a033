// SPDX-License-Identifier: Apache-2.0
// See report.h.
#include "report.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "base/json_reader.h"

static double mean_fps(const struct report *report)
{
    return report->fates.out > 1 && report->wall_s > 0
               ? (double) (report->fates.out - 1) / report->wall_s : 0;
}

uint64_t report_peak_rss_bytes(void)
{
    struct rusage usage = { 0 };
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t) usage.ru_maxrss * 1024;
}

static double stage_gflop(enum l2d_stage stage, const struct l2d_engine_info *info)
{
    switch (stage) {
    case L2D_STAGE_ENCODE: return info->gflop_encode;
    case L2D_STAGE_UNET:   return info->gflop_unet;
    case L2D_STAGE_DECODE: return info->gflop_decode;
    case L2D_STAGE_UPLOAD:
    case L2D_STAGE_DOWNLOAD:
    case L2D_NUM_STAGES:   break;
    }
    return 0;
}

void report_print_stages(FILE *file, const struct l2d_engine_stats *stats,
                         const struct l2d_engine_info *info)
{
    if (stats->timed == 0)
        return;
    double total_ms = 0, total_gflop = 0;
    fprintf(file, "  %-10s %10s %10s %10s\n", "GPU stage", "ms/frame", "GFLOP", "GFLOP/s");
    for (int i = 0; i < L2D_NUM_STAGES; i++) {
        double ms = stats->stage_ms[i] / (double) stats->timed;
        double gflop = stage_gflop((enum l2d_stage) i, info);
        total_ms += ms;
        total_gflop += gflop;
        fprintf(file, "  %-10s %10.2f", l2d_stage_str((enum l2d_stage) i), ms);
        if (gflop > 0 && ms > 0)
            fprintf(file, " %10.2f %10.1f", gflop, 1e3 * gflop / ms);
        fputc('\n', file);
    }
    fprintf(file, "  %-10s %10.2f", "total", total_ms);
    if (total_gflop > 0 && total_ms > 0)
        fprintf(file, " %10.2f %10.1f", total_gflop, 1e3 * total_gflop / total_ms);
    fputc('\n', file);
    if (info->works_ahead)
        fprintf(file, "  upload and encode run on a second queue, beside the frame before\n");
}

static void print_outputs(FILE *file, const struct report *r)
{
    for (unsigned i = 0; i < r->num_outputs; i++) {
        const struct report_output *o = &r->output[i];
        fprintf(file, "  %s: %s, %llu frames", o->name, o->state,
                (unsigned long long) o->stats.frames);
        if (o->stats.duplicated || o->stats.dropped)
            fprintf(file, " (--fps: %llu repeated, %llu left out)",
                    (unsigned long long) o->stats.duplicated,
                    (unsigned long long) o->stats.dropped);
        if (o->stats.audio_packets)
            fprintf(file, ", %llu audio packets", (unsigned long long) o->stats.audio_packets);
        if (o->stats.bytes)
            fprintf(file, ", %.2f MB", (double) o->stats.bytes / 1e6);
        if (o->counts.stalled || o->counts.lost)
            fprintf(file, ", %llu dropped (%llu while it was slow, %llu while it was not there)",
                    (unsigned long long) (o->counts.stalled + o->counts.lost),
                    (unsigned long long) o->counts.stalled, (unsigned long long) o->counts.lost);
        if (o->counts.losses)
            fprintf(file, ", lost %llu times", (unsigned long long) o->counts.losses);
        if (o->reason)
            fprintf(file, "; %s", o->reason);
        fputc('\n', file);
        if (r->live)
            fprintf(file, "    ms from arrival to output: p50 %.0f, p95 %.0f, p99 %.0f\n",
                    o->latency.p50, o->latency.p95, o->latency.p99);
    }
}

static void print_damage(FILE *file, const struct l2d_reader_stats *r)
{
    if (!r->concealed && !r->decode_errors && !r->repaired_pts && !r->discontinuities &&
        !r->truncated)
        return;
    fprintf(file, "  input damage: %llu frames concealed, %llu packets without a picture, "
            "%llu timestamps repaired, %llu jumps of the clock closed%s\n",
            (unsigned long long) r->concealed, (unsigned long long) r->decode_errors,
            (unsigned long long) r->repaired_pts, (unsigned long long) r->discontinuities,
            r->truncated ? ", ends too early" : "");
}

static void print_fates(FILE *file, const struct report *r)
{
    const struct fates *f = &r->fates;
    fprintf(file, "  frames: %llu in = %llu out + %llu dropped (%llu too late, %llu stopped",
            (unsigned long long) f->in, (unsigned long long) f->out,
            (unsigned long long) (f->late + f->stopped + f->overtaken + f->backlog),
            (unsigned long long) f->late, (unsigned long long) f->stopped);
    if (r->live)
        fprintf(file, ", %llu overtaken, %llu backlog", (unsigned long long) f->overtaken,
                (unsigned long long) f->backlog);
    fputs(")\n", file);
    if (f->held || r->source.losses)
        fprintf(file, "  source lost %llu times, %llu pictures held meanwhile\n",
                (unsigned long long) r->source.losses, (unsigned long long) f->held);
}

// "41 % with 1, 59 % with 4 steps".
static void print_deadline(FILE *file, const struct deadline_stats *d)
{
    uint64_t all = 0;
    const char *between = "";
    for (int n = 1; n <= L2D_MAX_STEPS; n++)
        all += d->frames[n];
    if (d->limit_ms <= 0 || all == 0)
        return;
    fprintf(file, "  deadline of %g ms: %llu changes, ", d->limit_ms,
            (unsigned long long) d->changes);
    for (int n = 1; n <= L2D_MAX_STEPS; n++)
        if (d->frames[n] > 0) {
            fprintf(file, "%s%.0f %% with %d", between, 100 * (double) d->frames[n] / (double) all,
                    n);
            between = ", ";
        }
    fputs(" steps\n", file);
}

void report_print(FILE *file, const struct report *r)
{
    const char *model = r->info.model_name[0] ? r->info.model_name : "no model";
    struct quantiles interval = histogram_quantiles(&r->interval);
    fprintf(file, "%s: %s at %dx%d", r->interrupted ? "Stopped" : "Done", model,
            r->info.drawn_width, r->info.drawn_height);
    if (r->info.width != r->info.drawn_width)
        fprintf(file, ", enlarged to %dx%d,", r->info.width, r->info.height);
    fprintf(file, " on %s\n", r->caps.name);
    print_fates(file, r);
    if (r->engine.frames_skipped)
        fprintf(file, "  similar frames: %llu of them repeat the picture before\n",
                (unsigned long long) r->engine.frames_skipped);
    if (r->engine.frames_moved)
        fprintf(file, "  not drawn: %llu of them, which are the picture before, moved along\n",
                (unsigned long long) r->engine.frames_moved);
    if (r->engine.changes || r->engine.cuts || r->engine.rewarms)
        fprintf(file, "  %llu changes, %llu scene cuts, %llu scenes left without one; model warmed "
                "anew %llu times\n",
                (unsigned long long) r->engine.changes, (unsigned long long) r->engine.cuts,
                (unsigned long long) r->engine.stales,
                (unsigned long long) (r->engine.rewarms + r->engine.refreshes));
    print_deadline(file, &r->deadline);
    fprintf(file, "  %.2f fps, speed %.2fx, %.1f s (and %.1f s to set up)\n", mean_fps(r),
            r->wall_s > 0 ? r->media_s / r->wall_s : 0, r->wall_s, r->setup_s);
    fprintf(file, "  ms between frames out: p50 %.1f, p95 %.1f, p99 %.1f\n", interval.p50,
            interval.p95, interval.p99);
    if (r->info.chunk > 1)
        fprintf(file, "  drawn in chunks of %u frames, which come out together\n", r->info.chunk);
    fprintf(file, "  memory: %.0f MB peak\n", (double) report_peak_rss_bytes() / 1e6);
    print_damage(file, &r->reader);
    print_outputs(file, r);
    report_print_stages(file, &r->engine, &r->info);
}

json_t *report_json_stages(const struct l2d_engine_stats *stats,
                           const struct l2d_engine_info *info)
{
    json_t *stages = json_object();
    for (int i = 0; stages && i < L2D_NUM_STAGES; i++) {
        double ms = stats->timed ? stats->stage_ms[i] / (double) stats->timed : 0;
        json_object_set_new(stages, l2d_stage_str((enum l2d_stage) i),
                            json_pack("{sf sf}", "ms", ms, "gflop",
                                      stage_gflop((enum l2d_stage) i, info)));
    }
    return stages;
}

json_t *report_json_model(const struct l2d_engine_info *info, const struct l2d_gpu_caps *caps)
{
    json_t *timesteps = json_array();
    for (int i = 0; i < info->num_steps; i++)
        json_array_append_new(timesteps, json_integer(info->timestep[i]));
    return json_pack(
        "{ss ss ss si si si si si si so si si ss ss sb ss sf sI sI sI sI sb}", "name",
        info->model_name, "device", caps->name, "driver", caps->driver, "width", info->width,
        "height", info->height, "drawn_width", info->drawn_width, "drawn_height",
        info->drawn_height, "canvas_width", info->canvas_width, "canvas_height",
        info->canvas_height, "timesteps", timesteps, "chunk", (int) info->chunk, "draw_every",
        (int) info->draw_every,
        "precision", info->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32",
        "kv_cache", l2d_engine_kv_str(info), "int8_weights", info->weight_type == L2D_WEIGHTS_INT8,
        "guidance_mode", l2d_guidance_mode_str(info->guidance_mode), "guidance", info->guidance,
        "weight_bytes", (json_int_t) info->memory.weights, "kv_cache_bytes",
        (json_int_t) info->memory.kv_cache, "activation_bytes",
        (json_int_t) info->memory.activations, "gpu_memory_bytes",
        (json_int_t) info->memory.peak, "works_ahead", info->works_ahead);
}

static json_t *json_output(const struct report_output *o, bool live)
{
    json_t *output = json_pack(
        "{so ss sI sI sI sI sI}", "name", l2d_json_text(o->name), "state", o->state, "frames",
        (json_int_t) o->stats.frames, "duplicated", (json_int_t) o->stats.duplicated,
        "dropped", (json_int_t) o->stats.dropped, "audio_packets",
        (json_int_t) o->stats.audio_packets, "bytes", (json_int_t) o->stats.bytes);
    if (output && o->reason)
        json_object_set_new(output, "reason", l2d_json_text(o->reason));
    if (output && live)
        json_object_update_new(output, json_pack(
            "{s{sI sI sI sI sI} s{sf sf sf}}", "live", "given", (json_int_t) o->counts.given,
            "written", (json_int_t) o->counts.written, "stalled", (json_int_t) o->counts.stalled,
            "lost", (json_int_t) o->counts.lost, "losses", (json_int_t) o->counts.losses,
            "latency_ms", "p50", o->latency.p50, "p95", o->latency.p95, "p99", o->latency.p99));
    return output;
}

static json_t *json_outputs(const struct report *r)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < r->num_outputs; i++) {
        const struct report_output *o = &r->output[i];
        json_array_append_new(list, json_output(o, r->live));
    }
    return list;
}

// Of the frames by their number of steps: {"1": 410, "4": 590}.
static json_t *json_deadline(const struct deadline_stats *d)
{
    json_t *frames = json_object();
    for (int n = 1; n <= L2D_MAX_STEPS; n++) {
        char steps[12];
        snprintf(steps, sizeof(steps), "%d", n);
        if (d->frames[n] > 0)
            json_object_set_new(frames, steps, json_integer((json_int_t) d->frames[n]));
    }
    return json_pack("{sf sI so}", "limit_ms", d->limit_ms, "changes", (json_int_t) d->changes,
                     "frames", frames);
}

json_t *report_json(const struct report *r)
{
    json_t *frames = json_pack(
        "{sI sI sI sI s{sI sI sI sI} sI sI}", "in", (json_int_t) r->fates.in, "out",
        (json_int_t) r->fates.out, "similar", (json_int_t) r->engine.frames_skipped,
        "moved", (json_int_t) r->engine.frames_moved,
        "dropped", "late", (json_int_t) r->fates.late, "stopped", (json_int_t) r->fates.stopped,
        "overtaken", (json_int_t) r->fates.overtaken, "backlog", (json_int_t) r->fates.backlog,
        "held", (json_int_t) r->fates.held, "unaccounted",
        (json_int_t) (r->unfair + r->fates.astray));
    json_t *input = json_pack(
        "{so sb sI sI sI sI sI sI sb}", "name", l2d_json_text(r->input), "live", r->live, "losses",
        (json_int_t) r->source.losses, "moves", (json_int_t) r->source.moves, "concealed",
        (json_int_t) r->reader.concealed, "decode_errors", (json_int_t) r->reader.decode_errors,
        "repaired_pts", (json_int_t) r->reader.repaired_pts, "discontinuities",
        (json_int_t) r->reader.discontinuities, "truncated", r->reader.truncated);
    json_t *live = json_pack(
        "{sI sI sI sI sI}", "changes", (json_int_t) r->engine.changes, "cuts",
        (json_int_t) r->engine.cuts, "stale", (json_int_t) r->engine.stales, "rewarms",
        (json_int_t) r->engine.rewarms, "refreshes", (json_int_t) r->engine.refreshes);
    if (live && r->deadline.limit_ms > 0)
        json_object_set_new(live, "deadline", json_deadline(&r->deadline));
    struct quantiles interval = histogram_quantiles(&r->interval);
    return json_pack(
        "{so so so so s{sf sf sf} so so sf sf sf sf sI sb}", "input", input, "model",
        report_json_model(&r->info, &r->caps), "frames", frames, "live", live, "interval_ms",
        "p50", interval.p50, "p95", interval.p95, "p99", interval.p99, "stages",
        report_json_stages(&r->engine, &r->info), "outputs", json_outputs(r), "fps", mean_fps(r),
        "media_s", r->media_s, "wall_s", r->wall_s, "setup_s", r->setup_s, "peak_rss_bytes",
        (json_int_t) report_peak_rss_bytes(), "interrupted", r->interrupted);
}

int report_write_json(const char *path, json_t *json, struct l2d_error *err)
{
    if (!json)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory for the report", path);
    FILE *file = strcmp(path, "-") ? fopen(path, "w") : stdout;
    if (!file) {
        json_decref(json);
        return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    }
    int failed = json_dumpf(json, file, JSON_INDENT(2)) != 0;
    failed |= fputc('\n', file) == EOF;
    json_decref(json);
    failed |= file == stdout ? fflush(file) != 0 : fclose(file) != 0;
    return failed ? l2d_error_set(err, L2D_EIO, "%s: cannot write the report: %s", path,
                                  strerror(errno))
                  : L2D_OK;
}
