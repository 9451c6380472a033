// SPDX-License-Identifier: Apache-2.0
// Makes the nth call of a kind fail, and counts what our code allocates and does not free. Linked
// in with --wrap: only calls from our own objects are seen, not those of libraries and drivers.
// One thread.
#ifndef L2D_TESTS_FAULTS_H
#define L2D_TESTS_FAULTS_H

#include <stdint.h>

enum fault {
    FAULT_NONE,
    FAULT_ALLOC,                        // malloc, calloc, realloc, strdup
    FAULT_BUFFER,                       // l2d_buf_take
    FAULT_GRAPH,                        // l2d_graph_create, l2d_graph_finish
    FAULT_SUBMIT,                       // l2d_gpu_submit, l2d_gpu_submit_after, l2d_graph_run
};

/** From here on, let call number nth (from 1; 0: none) of a kind fail. */
void faults_begin(enum fault fault, uint64_t nth);

/** Calls of that kind since begin. */
uint64_t faults_count(void);

/** Neither count nor fail for a while; allocations are still followed. */
void faults_pause(void);
void faults_continue(void);

/** Stop. returns the number of allocations since begin that have not been freed. */
uint64_t faults_end(void);

#endif
