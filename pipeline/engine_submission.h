// SPDX-License-Identifier: Apache-2.0
// Private to the engine: one submission to the GPU, from its parameters and calls to the picture
// that comes back. See engine_state.h.
#ifndef L2D_PIPELINE_ENGINE_SUBMISSION_H
#define L2D_PIPELINE_ENGINE_SUBMISSION_H

#include "pipeline/engine_state.h"

struct l2d_call {                       // of a graph, with what its rows are, for probes
    struct l2d_graph *graph;
    enum l2d_stage stage;
    uint32_t num_rows;
    uint32_t frame[L2D_MAX_ROWS];
    int step[L2D_MAX_ROWS];             // -1: per frame; -2: nobody's row
};

struct l2d_submission {
    struct l2d_engine_slot *slot;
    struct l2d_frame_block *block;      // mapped parameters of the slot
    struct l2d_call call[4 * L2D_MAX_STEPS + 24];
    uint32_t num_calls;
    bool beside;                        // the next frame can be encoded beside its main graphs
};

/** What a row of a call is: nobody's, or a frame at a step. */
struct l2d_row_params l2d_row_idle(void);
struct l2d_row_params l2d_row_of(const struct l2d_engine *engine, uint32_t frame, int32_t step);

/** A step of the current schedule with such settings: all of a row but its place. */
struct l2d_row_params l2d_row_of_step(const struct l2d_engine *engine,
                                      const struct l2d_frame_settings *settings, int32_t step);

/** Begin with a free slot; what it still held comes out first. */
int l2d_submission_begin(struct l2d_engine *engine, struct l2d_submission *s,
                         struct l2d_error *err);

/** Begin with a new frame: its pixels on the canvas. */
int l2d_submission_begin_frame(struct l2d_engine *engine, struct l2d_submission *s,
                               const struct l2d_frame *frame, struct l2d_error *err);

/** One more call; of what belongs to one frame; of the parameters' way to the GPU. */
struct l2d_call *l2d_submission_add(struct l2d_submission *s, struct l2d_graph *graph,
                                    enum l2d_stage stage);
void l2d_submission_add_frame(struct l2d_submission *s, struct l2d_graph *graph,
                              enum l2d_stage stage, uint32_t frame);
void l2d_submission_add_upload(struct l2d_submission *s);

/** What comes out: a graph's picture, which a drawn frame has, or one that follows it. */
void l2d_submission_add_output(struct l2d_engine *engine, struct l2d_submission *s,
                               struct l2d_graph *graph, uint32_t frame,
                               const struct l2d_color_out_fit *place,
                               const struct l2d_frame_time *time);

/** Send it off; with probes, call by call and with their values. */
int l2d_submission_submit(struct l2d_engine *engine, struct l2d_submission *s,
                          struct l2d_error *err);

/** Wait for all that is on the GPU but the last `keep` submissions; it comes out, oldest first. */
int l2d_engine_collect_all(struct l2d_engine *engine, uint32_t keep, struct l2d_error *err);

/** A picture leaves, with the time of its source. */
int l2d_engine_emit(struct l2d_engine *engine, const void *pixels, const struct l2d_frame_time *t,
                    struct l2d_error *err);
struct l2d_frame_time l2d_frame_time_of(const struct l2d_frame *frame);

/** The frame on the canvas goes through the model: the rest of its submission. */
int l2d_engine_stream_frame(struct l2d_engine *engine, struct l2d_submission *s,
                            struct l2d_error *err);

/** A call of the denoiser on rows that select takes from the block. */
void l2d_submission_add_unet(struct l2d_submission *s, struct l2d_graph *select,
                             struct l2d_graph *unet, const struct l2d_call *rows);

// ---- words: engine_text.c

/** A new text: from the next frame on, or, before the warm-up, at once. */
int l2d_words_change(struct l2d_engine *engine, struct l2d_engine_words *words,
                     const struct l2d_change *change, struct l2d_error *err);

/** Other shares of its parts: the same, without the text tower. */
int l2d_words_blend(struct l2d_engine *engine, struct l2d_engine_words *words,
                    const struct l2d_change *change, struct l2d_error *err);

/** The same words under other weights; tower: the text tower has other ones too. Nothing is in
    flight. */
int l2d_words_renew(struct l2d_engine *engine, struct l2d_engine_words *words, bool tower,
                    struct l2d_error *err);

/** Every frame in flight takes its words along, with each call of the denoiser. */
void l2d_words_move(struct l2d_engine_words *words, struct l2d_submission *s);

/** The words of a new frame. returns true with the last frame of a fade. */
bool l2d_words_advance(struct l2d_engine *engine, struct l2d_engine_words *words,
                       struct l2d_submission *s);

// ---- sinks: engine_sinks.c

/** The 8 newest frames, up to the one before frame; or 8 times frame. They become the sinks. */
void l2d_sinks_keep_newest(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame);
void l2d_sinks_keep_still(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame);

/** Begin to warm the sinks anew, for a frame whose words are in row 0. */
void l2d_sinks_begin(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame);

/** Warm a step's sinks, if it is the first of the re-warm's frames that is about to take it. */
void l2d_sinks_step(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame,
                    int32_t step);

// ---- steadied pictures: engine_steady.c

/** The canvas's luminance is kept. returns the number of the sight. */
uint32_t l2d_steady_keep(struct l2d_engine *engine, struct l2d_submission *s);

/** The drawn frame on the canvas is kept, if it is to be steadied or moved. */
void l2d_steady_see(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame);

/** The graph that decodes a frame, and its parameters. */
struct l2d_graph *l2d_steady_decode(struct l2d_engine *engine, struct l2d_submission *s,
                                    uint32_t frame);

/** The parameters of the graph that moves what came out last to a sight. */
void l2d_steady_move(struct l2d_engine *engine, struct l2d_submission *s, uint32_t sight);

// ---- the source mixed in: engine_mix.c

/** The source of the frame that comes in is kept, if any of it is to be mixed in. */
void l2d_mix_see(struct l2d_engine *engine, struct l2d_submission *s, uint32_t sight, float mix);

/** So much of it goes out with the output that was added. */
void l2d_mix_out(struct l2d_engine *engine, struct l2d_submission *s, uint32_t sight, float mix);

// ---- frames that are not drawn: engine_moves.c

/** Is the next frame one that is moved? */
bool l2d_moves_next(const struct l2d_engine *engine);

/** Such a frame comes in. */
int l2d_engine_push_moved(struct l2d_engine *engine, const struct l2d_frame *frame,
                          struct l2d_error *err);

/** Those that wait for the frame that was decoded last go out. */
int l2d_moves_send(struct l2d_engine *engine, struct l2d_error *err);

// ---- LoRAs: engine_loras.c

/** Other scales, from the next frame on for which there is a switch; and that switch. */
int l2d_loras_change(struct l2d_engine *engine, const float scale[L2D_MAX_LORAS],
                     struct l2d_error *err);
int l2d_loras_switch(struct l2d_engine *engine, struct l2d_error *err);

// ---- changes: engine_live.c

/** What comes before a frame's encoding, and what comes between that and its first step. */
void l2d_live_before(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame);
void l2d_live_after(struct l2d_engine *engine, struct l2d_submission *s, uint32_t frame);

/** Before a frame is pushed: steps and what is shown, if it is time; a cut, or a re-warm that is
    due. */
int l2d_live_look(struct l2d_engine *engine, const struct l2d_frame *frame, struct l2d_error *err);

/** Does something begin with the next frame: other words, sinks or settings? */
bool l2d_live_begins(const struct l2d_engine *engine);

/** Must the next frame be drawn, whatever it is like? */
bool l2d_live_must_draw(const struct l2d_engine *engine);

/** All frames in flight come out. */
int l2d_engine_drain(struct l2d_engine *engine, struct l2d_error *err);

#endif
