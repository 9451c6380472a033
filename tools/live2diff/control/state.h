// SPDX-License-Identifier: Apache-2.0
// What there is to say about a run at one moment, as plain numbers, and in the two forms that it is
// asked for: JSON for the page and `ctl`, Prometheus' text for monitoring.
#ifndef L2D_CONTROL_STATE_H
#define L2D_CONTROL_STATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define STATE_MAX_OUTPUTS 16
#define STATE_MAX_DROPS 8
#define STATE_MAX_STAGES 8
#define STATE_MAX_RECEIPTS 8

struct state_quantiles {            // p50.. of the last frames; count and sum of all
    double p50, p95, p99;           // ms
    double sum_ms;
    uint64_t count;
};

struct state_drop { const char *reason; uint64_t frames; };
struct state_stage { const char *name; double ms; };            // sum over frames

struct state_output {
    uint32_t id;
    const char *name, *state;       // state: "running", "finished", ...
    const char *reason;             // what went wrong last; "" or NULL: nothing
    bool recording;
    bool up;                        // takes frames
    uint64_t frames, dropped;       // written; not, since it was slow or lost
    uint64_t losses;                // how often it was lost
    double p50, p95, p99;           // ms from the source's arrival to the end of the write, lately
};

struct state_receipt {              // of a change of a parameter
    uint64_t number;                // of the change, from 1
    const char *param, *state;      // state: "waiting", "done", "refused"
    uint64_t frame;                 // done: the first one that can differ, of all that come out,
                                    // from 1
    char why[256];                  // refused
};

// Strings are borrowed and outlive the struct.
struct control_state {
    const char *source;             // state of the input: "running", "buffering", "retrying", ...
    const char *source_reason;      // why it was lost last; "": never
    bool source_up;                 // it gives frames
    uint64_t source_losses;
    const char *version, *input, *model, *device, *driver, *precision;
    int32_t width, height, num_steps;
    double uptime_s;
    double fps;                     // of the last seconds
    uint64_t frames_in, frames_out, frames_similar, frames_moved;
    uint64_t frames_held;           // pictures shown again while the input was silent
    struct state_drop drop[STATE_MAX_DROPS];
    unsigned num_drops;
    struct state_quantiles latency; // from the reader to the model's far end
    struct state_quantiles interval;        // between frames out
    struct state_stage stage[STATE_MAX_STAGES];
    unsigned num_stages;
    uint64_t stage_frames;          // that the stages' sums are over
    struct state_output output[STATE_MAX_OUTPUTS];
    unsigned num_outputs;
    uint64_t gpu_memory_bytes, peak_rss_bytes;
    const char *fit;                // how the source lies in the result: "cover", ...

    struct state_receipt receipt[STATE_MAX_RECEIPTS];       // the last ones, newest last
    unsigned num_receipts;
    uint64_t changes;               // requests for changes of parameters, that were accepted
    unsigned event_clients, preview_clients;
};

/**
 * A name that may be shown: of a URL the scheme and the host alone, since what follows, and a user
 * before it, are often secrets (stream keys, a camera's password). Others as they are.
 */
void state_public_name(char *out, size_t size, const char *name);

/** A line that speaks of URLs, name among them, with these shown in the same way. */
void state_public_reason(char *out, size_t size, const char *reason, const char *name);

/** NULL: out of memory. */
json_t *state_json(const struct control_state *state);

/** Prometheus' text format 0.0.4. Free it. NULL: out of memory. */
char *state_metrics(const struct control_state *state);

#endif
