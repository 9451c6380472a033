// SPDX-License-Identifier: Apache-2.0
// Who changes a running stream, one at a time: the control, the timeline, and with --deadline the
// time that frames take, which chooses the set of steps. What control and timeline say comes first:
// their steps are in effect at once, and the deadline goes to fewer and back, never above.
#ifndef L2D_PROGRAM_STEER_H
#define L2D_PROGRAM_STEER_H

#include <pthread.h>

#include "base/error.h"
#include "base/log.h"
#include "deadline.h"
#include "pipeline/stream.h"

struct steer {                  // any thread may call all but init, start and finish
    struct l2d_stream *stream;
    struct l2d_log log;
    bool has_deadline;
    pthread_mutex_t lock;
    struct deadline deadline;   // guarded by lock
};

void steer_init(struct steer *steer, const struct l2d_log *log);
void steer_finish(struct steer *steer);

/** Before any frame. limit_ms 0: no deadline. */
void steer_start(struct steer *steer, struct l2d_stream *stream, double limit_ms, bool batch);

/** As l2d_stream_change, of a timeline or by hand. */
int steer_change(struct steer *steer, const struct l2d_change *change, enum l2d_when when,
                 uint64_t *ticket, struct l2d_error *err);

/** A frame has left the model, or was dropped as late: the deadline may change the steps now. */
void steer_frame(struct steer *steer, double arrival_s, double now_s);
void steer_drop(struct steer *steer, double now_s);

struct deadline_stats steer_stats(struct steer *steer);

#endif
