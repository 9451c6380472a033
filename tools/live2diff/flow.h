// SPDX-License-Identifier: Apache-2.0
// The parts of a run and the threads between them: the reader pushes frames into the stream and
// sound to the outputs; the fan-out pops frames, or holds the last one while a live source is
// silent, and gives them to all outputs, each of which has its own thread.
#ifndef L2D_PROGRAM_FLOW_H
#define L2D_PROGRAM_FLOW_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/thread.h"
#include "control/frames.h"
#include "delay.h"
#include "fate.h"
#include "histogram.h"
#include "hold.h"
#include "outputs.h"
#include "pipeline/stream.h"
#include "keys.h"
#include "run_control.h"
#include "run_params.h"
#include "run_status.h"
#include "steer.h"
#include "timeline.h"
#include "timeline_record.h"
#include "video_io/source.h"

struct flow_stops {             // may be set in a signal handler
    atomic_bool input;          // the user wants an end: what was read is finished
    atomic_bool source;         // nothing more is to be read; set with input
    atomic_bool now;            // at once
};

struct flow {
    struct l2d_log log;
    struct flow_stops *stops;
    struct l2d_source *source;
    struct l2d_stream *stream;
    struct steer steer;         // changes of the stream go through it
    struct outputs outputs;
    bool live;
    struct run_params *params;      // what can change
    struct control_frames *frames;  // for who looks; NULL: nobody can
    struct run_control *control;    // NULL: none
    struct keys *keys;              // NULL: no window
    struct timeline *timeline;  // changes by time of the input; NULL: none. Who pushes has it
    struct timeline_record *record;     // what has changed, by the same; NULL: none. The stream's
    int64_t start_us;           // where the input was begun
    int64_t start_pts;          // of the first frame; who pushes has it
    struct fate_ledger ledger;
    struct hold hold;           // the fan-out's
    double buffer_s;            // live frames wait so long, or less if they come late; 0: not
    struct delay *delay;        // where; NULL: they do not
    struct l2d_thread read_thread, fan_thread;
    atomic_bool source_over;    // the reader has pushed its last frame
    atomic_bool ended;          // the fan-out has given out its last frame

    pthread_mutex_t lock;
    // --- guarded by lock
    struct l2d_error error;     // the first
    uint64_t frames_out;
    int64_t first_pts, last_pts;
    double first_s, last_s;
    struct histogram interval;  // between frames out of the model
};

void flow_init(struct flow *flow, struct flow_stops *stops, const struct l2d_log *log);

/** Frames a second that the source says it has; 25 if it does not. */
double flow_input_rate(const struct flow *flow);

/** For the stream: user is the flow. Keeps the record. */
void flow_changed(void *user, const struct l2d_change *change, const struct l2d_frame *frame);

/** Start the threads; source, stream, outputs and hold are open. */
int flow_start(struct flow *flow, struct l2d_error *err);

/** Wait for reader and fan-out, which are told to stop. */
void flow_stop(struct flow *flow);

/** Stops the control and the threads, joins the outputs and frees all but timeline and record. */
void flow_finish(struct flow *flow);

/** A copy of the first error; code L2D_OK if there is none. Any thread. */
struct l2d_error flow_error(struct flow *flow);

#endif
