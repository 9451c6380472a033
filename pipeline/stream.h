// SPDX-License-Identifier: Apache-2.0
// The library's front door: a stream of pictures through a model, on a thread of its own. Push
// frames at one end, pop translated ones at the other; as many come out as were accepted, but for
// those that a live stream lets go. A model draws nothing before 8 frames are in, or the end; and
// push waits where the stream is full: so push on one thread and pop on another, unless the frames
// are few. See samples/.
//
//     struct l2d_stream *stream = NULL;
//     l2d_stream_create(&stream, &(struct l2d_stream_params) { .engine = { .model = dir } }, &err);
//     push frames ... l2d_stream_end(stream) ... pop until *frame is NULL
//     l2d_stream_destroy(&stream);
#ifndef L2D_PIPELINE_STREAM_H
#define L2D_PIPELINE_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/frame.h"
#include "gpu/device.h"
#include "pipeline/engine.h"

struct l2d_stream;              // opaque. Any thread may call all but create and destroy

struct l2d_stream_params {      // zero means default
    struct l2d_engine_params engine;    // emit, probe and user are the stream's own
    struct l2d_gpu_params gpu;
    uint32_t queue_frames;      // capacity of the input and the output queue; 0: 4. Live, 1
                                // waits least
    bool live;                  // a full input queue lets go of its oldest frame and counts it;
                                // without engine.chunk
    const char *dump_dir;       // NULL: none; see dump.h. Not with engine.skip_similar,
                                // draw_every or chunk
    /** A change was made with this frame. On the stream's thread, which waits. May be NULL. */
    void (*on_change)(void *user, const struct l2d_change *change, const struct l2d_frame *frame);
    void *on_change_user;
};

struct l2d_stream_stats {
    uint64_t frames_in;         // accepted by push
    uint64_t frames_out;        // given to pop
    uint64_t frames_dropped;    // by a full queue of a live stream
    uint64_t frames_done;       // had by the engine; idle: as many as frames_in - frames_dropped
    struct l2d_engine_stats engine;
};

/**
 * Open the device, load the model, start the thread: seconds. Strings of params are copied; what
 * log.user and on_change_user point to is used until destroy.
 * returns  L2D_OK, or a code and a line that says what, where and what to do; *out is then as it
 *          was
 */
int l2d_stream_create(struct l2d_stream **out, const struct l2d_stream_params *params,
                      struct l2d_error *err);

/** Stop without draining and free. Nobody may be inside push or pop any more. Accepts NULL. */
void l2d_stream_destroy(struct l2d_stream **stream);

/** As at creation, steps and prompt too: what is in effect is in the stats. Valid until destroy. */
const struct l2d_engine_info *l2d_stream_info(const struct l2d_stream *stream);

/** The device. Valid until destroy. */
const struct l2d_gpu_caps *l2d_stream_gpu(const struct l2d_stream *stream);

/** The counts so far. */
struct l2d_stream_stats l2d_stream_stats(struct l2d_stream *stream);

/**
 * Hand over a frame. Waits while the queue is full, unless the stream is live.
 * frame    not NULL; of any size and format that frame.h can describe, which may change from frame
 *          to frame. That its planes lie within its data is not checked
 * Ownership: on L2D_OK the stream owns the frame, nobody writes to it any more, and *frame is NULL;
 * else it is still yours.
 * returns  L2D_OK; L2D_ECLOSED after end or stop; L2D_ENOMEM; or the error that ended the stream.
 */
int l2d_stream_push(struct l2d_stream *stream, struct l2d_frame **frame, struct l2d_error *err);

/**
 * Take the next translated frame, waiting for it: I420, or RGBA8 if params asked for it, of info's
 * width and height; pts, duration and time base are those of its source. It is the caller's to
 * unref. *frame is NULL at the end of the stream and ever after.
 * returns  L2D_OK, or the error that ended it
 */
int l2d_stream_pop(struct l2d_stream *stream, struct l2d_frame **frame, struct l2d_error *err);

/** The same, waiting for at most timeout_ms; then *frame is NULL, *timed_out true and L2D_OK. */
int l2d_stream_pop_timed(struct l2d_stream *stream, struct l2d_frame **frame, int timeout_ms,
                         bool *timed_out, struct l2d_error *err);

/** No more frames will be pushed; what is inside comes out, then the end. May be repeated. */
void l2d_stream_end(struct l2d_stream *stream);

/**
 * Take on no further frame, after the one that is being worked on, until it is false again: then
 * the stream goes on where it was, with the same frames as without. What was drawn already can be
 * popped, and pushed is what the queue holds. Not for live streams, whose frames would be dropped.
 */
void l2d_stream_pause(struct l2d_stream *stream, bool paused);

/** Wake everybody and stop now: push and pop return L2D_ECLOSED and the end. May be repeated. */
void l2d_stream_stop(struct l2d_stream *stream);

enum l2d_when {
    L2D_WHEN_SOON,              // with the next frame that is worked on
    L2D_WHEN_IN_ORDER,          // with the next frame that is pushed: the same frame in every run
};

enum l2d_receipt_state {
    L2D_RECEIPT_WAITING,
    L2D_RECEIPT_DONE,           // from frame first on
    L2D_RECEIPT_REFUSED,        // why; all is as it was
    L2D_RECEIPT_UNKNOWN,        // there is no such ticket, or it is long ago
};

struct l2d_receipt {
    enum l2d_receipt_state state;
    uint64_t first;             // the first frame that can differ, of those that come out, from 0
    char why[256];
};

/**
 * Change something while the stream runs: see change.h. It is taken on at once and done later, with
 * a frame; nothing is dropped for it, and that frame waits for no more than the work itself: of a
 * text, the text tower's. The text is copied. Of several changes of one kind that wait SOON only
 * the last counts, of LoRAs' scales of one name, and the others are refused; a prompt takes the
 * place of a blend too. IN_ORDER, all are made, however many wait.
 * A LoRA's scale is another matter: its weights are computed first, which takes seconds for a large
 * model. SOON, frames go on meanwhile, and the first frame after that has it; only the last scale
 * that comes in that time counts. IN_ORDER, its frame waits.
 * ticket   for l2d_stream_receipt; may be NULL
 * returns  L2D_OK; L2D_ECLOSED if the stream has ended; L2D_ENOMEM
 */
int l2d_stream_change(struct l2d_stream *stream, const struct l2d_change *change,
                      enum l2d_when when, uint64_t *ticket, struct l2d_error *err);

/** What has become of a change; the last 256 are known. Does not wait. */
struct l2d_receipt l2d_stream_receipt(struct l2d_stream *stream, uint64_t ticket);

/** Change the prompt, or the negative one, soon and without a fade. returns as above. */
int l2d_stream_set_prompt(struct l2d_stream *stream, const char *prompt, struct l2d_error *err);
int l2d_stream_set_negative(struct l2d_stream *stream, const char *prompt, struct l2d_error *err);

#endif
