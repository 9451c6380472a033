// SPDX-License-Identifier: Apache-2.0
// See state.h.
#include "state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_reader.h"

void state_public_name(char *out, size_t size, const char *name)
{
    const char *scheme = strstr(name, "://");
    if (!scheme) {
        snprintf(out, size, "%s", name);
        return;
    }
    const char *host = scheme + 3, *end = host + strcspn(host, "/?#");
    for (const char *c = host; c < end; c++)
        if (*c == '@')
            host = c + 1;
    snprintf(out, size, "%.*s%.*s%s", (int) (scheme + 3 - name), name, (int) (end - host), host,
             *end && end[1] ? "/..." : end);
}

// A line may be cut within its URL, and a name too: what follows up to a space is part of it.
void state_public_reason(char *out, size_t size, const char *reason, const char *name)
{
    size_t len = 0, known = strlen(name);
    out[0] = '\0';
    while (*reason && len + 1 < size) {
        char word[256], shown[256];
        size_t n = known > 0 && !strncmp(reason, name, known) ? known : 0;
        n += strcspn(reason + n, " ");
        bool colon = n > 1 && reason[n - 1] == ':';
        snprintf(word, sizeof(word), "%.*s", (int) (n - colon), reason);
        state_public_name(shown, sizeof(shown), word);
        len += (size_t) snprintf(out + len, size - len, "%s%s%.1s", shown, colon ? ":" : "",
                                 reason + n);
        reason += n + (reason[n] != '\0');
    }
}

static json_t *quantiles_json(const struct state_quantiles *q)
{
    return json_pack("{sf sf sf sI}", "p50", q->p50, "p95", q->p95, "p99", q->p99, "count",
                     (json_int_t) q->count);
}

static json_t *drops_json(const struct control_state *s)
{
    json_t *drops = json_object();
    for (unsigned i = 0; drops && i < s->num_drops; i++)
        json_object_set_new(drops, s->drop[i].reason, json_integer((json_int_t) s->drop[i].frames));
    return drops;
}

static json_t *stages_json(const struct control_state *s)
{
    json_t *stages = json_object();
    for (unsigned i = 0; stages && i < s->num_stages; i++)
        json_object_set_new(stages, s->stage[i].name, json_real(
            s->stage_frames ? s->stage[i].ms / (double) s->stage_frames : 0));
    return stages;
}

static json_t *output_json(const struct state_output *o)
{
    return json_pack("{sI so ss so sb sb sI sI sI s{sf sf sf}}", "id", (json_int_t) o->id, "name",
                     l2d_json_text(o->name), "state", o->state, "reason",
                     l2d_json_text(o->reason ? o->reason : ""), "recording", o->recording, "up",
                     o->up, "frames", (json_int_t) o->frames, "dropped",
                     (json_int_t) o->dropped, "losses", (json_int_t) o->losses, "latency_ms",
                     "p50", o->p50, "p95", o->p95, "p99", o->p99);
}

static json_t *outputs_json(const struct control_state *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < s->num_outputs; i++)
        json_array_append_new(list, output_json(&s->output[i]));
    return list;
}

static json_t *receipts_json(const struct control_state *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < s->num_receipts; i++) {
        const struct state_receipt *r = &s->receipt[i];
        json_t *json = json_pack("{sI ss ss}", "number", (json_int_t) r->number, "param", r->param,
                                 "state", r->state);
        if (json && !strcmp(r->state, "done"))
            json_object_set_new(json, "frame", json_integer((json_int_t) r->frame));
        if (json && !strcmp(r->state, "refused"))
            json_object_set_new(json, "why", l2d_json_text(r->why));
        json_array_append_new(list, json);
    }
    return list;
}

json_t *state_json(const struct control_state *s)
{
    json_t *engine = json_pack(
        "{so ss ss ss si si si ss sI}", "model", l2d_json_text(s->model), "device", s->device,
        "driver", s->driver, "precision", s->precision, "width", s->width, "height", s->height,
        "steps", s->num_steps, "fit", s->fit, "gpu_memory_bytes",
        (json_int_t) s->gpu_memory_bytes);
    json_t *frames = json_pack(
        "{sI sI sI sI sI so}", "in", (json_int_t) s->frames_in, "out", (json_int_t) s->frames_out,
        "similar", (json_int_t) s->frames_similar, "moved", (json_int_t) s->frames_moved, "held",
        (json_int_t) s->frames_held, "dropped", drops_json(s));
    json_t *source = json_pack("{ss so sI}", "state", s->source, "reason",
                               l2d_json_text(s->source_reason), "losses",
                               (json_int_t) s->source_losses);
    json_t *clients = json_pack("{si si}", "events", (int) s->event_clients, "preview",
                                (int) s->preview_clients);
    return json_pack(
        "{ss so so sf sI so so so sf so so so so sI so}",
        "version", s->version,
        "input", l2d_json_text(s->input),
        "source", source,
        "uptime_s", s->uptime_s,
        "changes", (json_int_t) s->changes,
        "receipts", receipts_json(s),
        "engine", engine,
        "frames", frames,
        "fps", s->fps,
        "latency_ms", quantiles_json(&s->latency),
        "interval_ms", quantiles_json(&s->interval),
        "stage_ms", stages_json(s),
        "outputs", outputs_json(s),
        "peak_rss_bytes", (json_int_t) s->peak_rss_bytes,
        "clients", clients);
}

// --- Prometheus

// A label's value: backslash, quote and line break are escaped, what is no UTF-8 is replaced: else
// the whole answer would be refused.
static void put_label(FILE *f, const char *name, const char *value, const char *after)
{
    json_t *valid = json_string(value);
    fprintf(f, "%s=\"", name);
    for (; *value; value++)
        if (!valid && (unsigned char) *value >= 0x80)
            fputc('?', f);
        else if (*value == '\n')
            fputs("\\n", f);
        else if (*value == '\\' || *value == '"')
            fprintf(f, "\\%c", *value);
        else
            fputc(*value, f);
    json_decref(valid);
    fprintf(f, "\"%s", after);
}

static void head(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP live2diff_%s %s\n# TYPE live2diff_%s %s\n", name, help, name, type);
}

static void put_count(FILE *f, const char *name, const char *type, const char *help, uint64_t value)
{
    head(f, name, type, help);
    fprintf(f, "live2diff_%s %" PRIu64 "\n", name, value);
}

static void put_real(FILE *f, const char *name, const char *help, double value)
{
    head(f, name, "gauge", help);
    fprintf(f, "live2diff_%s %.6g\n", name, value);
}

static void put_summary(FILE *f, const char *name, const char *help,
                        const struct state_quantiles *q)
{
    head(f, name, "summary", help);
    fprintf(f, "live2diff_%s{quantile=\"0.5\"} %.6g\n", name, 1e-3 * q->p50);
    fprintf(f, "live2diff_%s{quantile=\"0.95\"} %.6g\n", name, 1e-3 * q->p95);
    fprintf(f, "live2diff_%s{quantile=\"0.99\"} %.6g\n", name, 1e-3 * q->p99);
    fprintf(f, "live2diff_%s_sum %.9g\n", name, 1e-3 * q->sum_ms);
    fprintf(f, "live2diff_%s_count %" PRIu64 "\n", name, q->count);
}

static void put_outputs(FILE *f, const struct control_state *s, const char *name, const char *type,
                        const char *help, uint64_t (*value)(const struct state_output *))
{
    head(f, name, type, help);
    for (unsigned i = 0; i < s->num_outputs; i++) {
        fprintf(f, "live2diff_%s{output=\"%u\",", name, (unsigned) s->output[i].id);
        put_label(f, "name", s->output[i].name, "} ");
        fprintf(f, "%" PRIu64 "\n", value(&s->output[i]));
    }
}

static uint64_t output_up(const struct state_output *o) { return o->up; }
static uint64_t output_frames(const struct state_output *o) { return o->frames; }
static uint64_t output_dropped(const struct state_output *o) { return o->dropped; }
static uint64_t output_losses(const struct state_output *o) { return o->losses; }

static void put_frames(FILE *f, const struct control_state *s)
{
    put_count(f, "frames_in_total", "counter", "Frames read from the input.", s->frames_in);
    put_count(f, "frames_out_total", "counter", "Frames that came out of the model.",
              s->frames_out);
    put_count(f, "frames_similar_total", "counter",
              "Frames that repeat the picture before them.", s->frames_similar);
    put_count(f, "frames_moved_total", "counter",
              "Frames that are the picture before them, moved along.", s->frames_moved);
    put_count(f, "frames_held_total", "counter",
              "Pictures shown again while the input was silent.", s->frames_held);
    put_count(f, "source_up", "gauge", "1 while the input gives frames.", s->source_up);
    put_count(f, "source_losses_total", "counter", "How often the input was lost.",
              s->source_losses);
    head(f, "frames_dropped_total", "counter", "Frames that were dropped, by reason.");
    for (unsigned i = 0; i < s->num_drops; i++) {
        fputs("live2diff_frames_dropped_total{", f);
        put_label(f, "reason", s->drop[i].reason, "} ");
        fprintf(f, "%" PRIu64 "\n", s->drop[i].frames);
    }
    put_real(f, "frames_per_second", "Frames out per second, lately.", s->fps);
    put_summary(f, "latency_seconds",
                "From the input's reader to the model's far end; quantiles of the last frames.",
                &s->latency);
    put_summary(f, "frame_interval_seconds",
                "Between frames out; quantiles of the last frames.", &s->interval);
}

static void put_engine(FILE *f, const struct control_state *s)
{
    head(f, "stage_seconds_total", "counter", "Time on the GPU, by stage.");
    for (unsigned i = 0; i < s->num_stages; i++) {
        fputs("live2diff_stage_seconds_total{", f);
        put_label(f, "stage", s->stage[i].name, "} ");
        fprintf(f, "%.9g\n", 1e-3 * s->stage[i].ms);
    }
    put_count(f, "stage_frames_total", "counter", "Frames that stage_seconds_total is the time of.",
              s->stage_frames);
    put_count(f, "gpu_memory_bytes", "gauge", "GPU memory taken by the model.",
              s->gpu_memory_bytes);
    put_count(f, "peak_resident_memory_bytes", "gauge", "Most host memory so far.",
              s->peak_rss_bytes);
}

char *state_metrics(const struct control_state *s)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    head(f, "info", "gauge", "Constant 1; the labels say what runs.");
    fputs("live2diff_info{", f);
    put_label(f, "version", s->version, ",");
    put_label(f, "model", s->model, ",");
    put_label(f, "device", s->device, ",");
    fprintf(f, "width=\"%d\",height=\"%d\"} 1\n", s->width, s->height);
    put_real(f, "uptime_seconds", "Since the run was set up.", s->uptime_s);
    put_frames(f, s);
    put_engine(f, s);
    put_outputs(f, s, "output_up", "gauge", "1 while the output takes frames.", output_up);
    put_outputs(f, s, "output_frames_total", "counter", "Frames that the output wrote.",
                output_frames);
    put_outputs(f, s, "output_dropped_total", "counter",
                "Frames that the output did not take, slow or lost.", output_dropped);
    put_outputs(f, s, "output_losses_total", "counter", "How often the output was lost.",
                output_losses);
    put_count(f, "parameter_changes_total", "counter", "Requests that changed parameters.",
              s->changes);
    head(f, "control_clients", "gauge", "Connections that stay open, by what they watch.");
    fprintf(f, "live2diff_control_clients{kind=\"events\"} %u\n", s->event_clients);
    fprintf(f, "live2diff_control_clients{kind=\"preview\"} %u\n", s->preview_clients);
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
