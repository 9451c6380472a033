// SPDX-License-Identifier: Apache-2.0
// See packet_queue.h.
#include "video_io/packet_queue.h"

#include <assert.h>
#include <stdlib.h>

#include <libavcodec/packet.h>

static bool grow(struct l2d_packet_queue *q)
{
    size_t n = q->capacity ? 2 * q->capacity : 64;
    AVPacket **slot = calloc(n, sizeof(*slot));
    if (!slot)
        return false;
    for (size_t i = 0; i < q->len; i++)
        slot[i] = q->slot[(q->head + i) % q->capacity];
    free(q->slot);
    *q = (struct l2d_packet_queue) { slot, n, 0, q->len };
    return true;
}

bool l2d_packet_queue_push(struct l2d_packet_queue *queue, const struct AVPacket *packet)
{
    if (queue->len == queue->capacity && !grow(queue))
        return false;
    AVPacket *copy = av_packet_clone(packet);
    if (copy)
        queue->slot[(queue->head + queue->len++) % queue->capacity] = copy;
    return copy != NULL;
}

const struct AVPacket *l2d_packet_queue_peek(const struct l2d_packet_queue *queue)
{
    return queue->len > 0 ? queue->slot[queue->head] : NULL;
}

struct AVPacket *l2d_packet_queue_pop(struct l2d_packet_queue *queue)
{
    assert(queue->len > 0);
    AVPacket *packet = queue->slot[queue->head];
    queue->head = (queue->head + 1) % queue->capacity;
    queue->len--;
    return packet;
}

void l2d_packet_queue_clear(struct l2d_packet_queue *queue)
{
    while (queue->len > 0) {
        AVPacket *packet = l2d_packet_queue_pop(queue);
        av_packet_free(&packet);
    }
}

void l2d_packet_queue_finish(struct l2d_packet_queue *queue)
{
    l2d_packet_queue_clear(queue);
    free(queue->slot);
    *queue = (struct l2d_packet_queue) { 0 };
}
