// SPDX-License-Identifier: Apache-2.0
// Packets that wait: a growing ring. Internal to video_io. One thread.
#ifndef L2D_VIDEO_IO_PACKET_QUEUE_H
#define L2D_VIDEO_IO_PACKET_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct AVPacket;

struct l2d_packet_queue {           // zeroed: empty
    struct AVPacket **slot;
    size_t capacity, head, len;
};

/** Append a reference to packet. returns false if memory is short. */
bool l2d_packet_queue_push(struct l2d_packet_queue *queue, const struct AVPacket *packet);

/** The oldest; it stays. NULL if empty. */
const struct AVPacket *l2d_packet_queue_peek(const struct l2d_packet_queue *queue);

/** The oldest, which the caller owns from here on. The queue is not empty. */
struct AVPacket *l2d_packet_queue_pop(struct l2d_packet_queue *queue);

void l2d_packet_queue_clear(struct l2d_packet_queue *queue);

/** Clears and frees; the queue can be used again. */
void l2d_packet_queue_finish(struct l2d_packet_queue *queue);

#endif
