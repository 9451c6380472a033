// SPDX-License-Identifier: Apache-2.0
// See run_status.h.
#include "run_status.h"

#include <string.h>

void run_board_init(struct run_board *board)
{
    memset(board, 0, sizeof(*board));
    pthread_mutex_init(&board->lock, NULL);
}

void run_board_finish(struct run_board *board)
{
    pthread_mutex_destroy(&board->lock);
}

void run_board_publish(struct run_board *board, const struct run_status *status)
{
    pthread_mutex_lock(&board->lock);
    board->status = *status;
    pthread_mutex_unlock(&board->lock);
}

void run_board_read(struct run_board *board, struct run_status *status)
{
    pthread_mutex_lock(&board->lock);
    *status = board->status;
    pthread_mutex_unlock(&board->lock);
}
