// SPDX-License-Identifier: Apache-2.0
// What changes while frames flow: words, steps, noise, what is shown, and when the sinks are warmed
// anew. Each change belongs to a frame; see change.h and engine_sinks.c.
#include <string.h>

#include "pipeline/engine_submission.h"

// ---- parameters

static bool is_shared(const struct l2d_engine *e, enum l2d_noise_choice noise)
{
    return noise == L2D_NOISE_BY_MODEL ? e->model->config.scheduler.noise == L2D_NOISE_SHARED
                                       : noise == L2D_NOISE_ALL_SHARED;
}

int l2d_engine_set_live(struct l2d_engine *e, const struct l2d_engine_params *p,
                        struct l2d_error *err)
{
    if (!(p->rewarm_seconds >= 0 && p->rewarm_seconds <= 1e9))
        return l2d_error_set(err, L2D_EINVAL, "rewarm every %g seconds: must be above 0, or 0 for "
                             "never", p->rewarm_seconds);
    e->rewarm = p->rewarm;
    e->rewarm_seconds = p->rewarm_seconds;
    e->now.shared_noise = is_shared(e, p->noise);
    return L2D_OK;
}

// ---- steps, and what is shown

static int switch_steps(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = l2d_engine_drain(e, err);
    if (rc == L2D_OK)
        rc = l2d_engine_use_steps(e, e->step_set_next, err);
    e->stale = e->warm_done;
    return rc;
}

static int switch_show(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = l2d_engine_drain(e, err);
    if (e->show_next == L2D_SHOW_FROZEN && !e->last_pixels)
        return rc;                      // as soon as there is a picture
    if (e->shown_now == L2D_SHOW_SOURCE) {
        e->now.base += e->frames - e->drawn_from;       // as if those frames had not been
        e->drawn_from = e->frames;
    }
    if (e->show_next == L2D_SHOW_SOURCE) {
        e->drawn_from = e->frames;
        e->stale |= !e->warm_done;
        e->warm_done = true;
    }
    e->shown_now = e->show_next;
    return rc;
}

static int make_switches(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    if (e->frames > 0 && !e->warm_done)
        return L2D_OK;                  // after the warm-up
    if (e->step_set_next != e->info.step_set)
        rc = switch_steps(e, err);
    if (rc == L2D_OK && e->loras.fused)
        rc = l2d_loras_switch(e, err);
    if (rc == L2D_OK && e->show_next != e->shown_now)
        rc = switch_show(e, err);
    return rc;
}

// ---- when to warm the sinks anew

static void begin_scene(struct l2d_engine *e)
{
    e->stats.cuts++;
    if (e->warm_done) {
        e->rewarm_from = L2D_REWARM_STILL;
        e->newest_at = 0;
    } else if (e->frames > 0) {         // within the warm-up, which is of both scenes
        e->newest_at = e->frames + L2D_SINKS;
    }
}

// What is seen is no longer what the sinks are of, though nothing cut.
static void renew_sinks(struct l2d_engine *e)
{
    if (e->warm_done && !e->newest_at && e->rewarm_from != L2D_REWARM_STILL) {
        e->stats.stales++;
        e->newest_at = e->frames;
    }
}

static void look(struct l2d_engine *e, const struct l2d_frame *frame)
{
    switch (l2d_cut_look(&e->cut, frame)) {
    case L2D_SIGHT_CUT:
        begin_scene(e);
        break;
    case L2D_SIGHT_STALE:
        renew_sinks(e);
        break;
    case L2D_SIGHT_GOES_ON:
        break;
    }
}

int l2d_live_look(struct l2d_engine *e, const struct l2d_frame *frame, struct l2d_error *err)
{
    double t = frame->time_base_den > 0
             ? (double) frame->pts * frame->time_base_num / frame->time_base_den : 0;
    int rc = make_switches(e, err);
    if (e->rewarm == L2D_REWARM_AUTO)
        look(e, frame);
    if (e->stats.frames_in == 0 || t < e->rewarmed_s)   // or it has jumped back
        e->rewarmed_s = t;
    if (e->rewarm_seconds > 0 && e->warm_done && t - e->rewarmed_s >= e->rewarm_seconds) {
        e->rewarmed_s = t;
        if (!e->newest_at && e->rewarm_from != L2D_REWARM_STILL)
            e->newest_at = e->frames;
    }
    return rc;
}

bool l2d_live_must_draw(const struct l2d_engine *e)
{
    return e->must_draw || e->prompt.fading || e->negative_prompt.fading ||
           e->rewarm_from != L2D_REWARM_NOTHING;
}

// The next re-warm, if there is one and room for it. One has to have passed the last step before
// another can begin: in a sequence that is long so, but it waits as a batch would.
static enum l2d_rewarm_from next_rewarm(const struct l2d_engine *e, uint32_t frame)
{
    if (frame < e->sinks.free_at)
        return L2D_REWARM_NOTHING;
    if (e->rewarm_from == L2D_REWARM_STILL)
        return L2D_REWARM_STILL;
    if (e->newest_at && frame >= e->newest_at && frame - e->drawn_from >= L2D_SINKS)
        return L2D_REWARM_NEWEST;
    return e->rewarm_from;
}

bool l2d_live_begins(const struct l2d_engine *e)
{
    return l2d_live_must_draw(e) || e->stale || next_rewarm(e, e->frames) != L2D_REWARM_NOTHING;
}

void l2d_live_before(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    if (e->stale && (e->newest_at || frame - e->drawn_from < L2D_SINKS))
        e->rewarm_from = L2D_REWARM_STILL;
    else if (e->stale)
        e->newest_at = frame;
    e->stale = false;
    e->beginning = next_rewarm(e, frame);
    if (e->beginning == L2D_REWARM_NEWEST)              // the frame's encoding takes its place
        l2d_sinks_keep_newest(e, s, frame);
    if (e->beginning == L2D_REWARM_NEWEST || e->beginning == L2D_REWARM_STILL)
        e->now.base = frame - L2D_SINKS;                // the window begins again
}

void l2d_live_after(struct l2d_engine *e, struct l2d_submission *s, uint32_t frame)
{
    l2d_words_move(&e->prompt, s);
    l2d_words_move(&e->negative_prompt, s);
    bool changed = l2d_words_advance(e, &e->prompt, s);
    changed |= l2d_words_advance(e, &e->negative_prompt, s);
    if (changed && e->rewarm_from == L2D_REWARM_NOTHING)
        e->rewarm_from = L2D_REWARM_KEPT;
    if (e->beginning == L2D_REWARM_NOTHING)
        e->beginning = next_rewarm(e, frame);
    e->must_draw = false;
    if (e->beginning == L2D_REWARM_NOTHING)
        return;
    e->newest_at = e->beginning == L2D_REWARM_STILL ? frame + L2D_SINKS
                 : e->beginning == L2D_REWARM_NEWEST ? 0 : e->newest_at;
    *(e->beginning == L2D_REWARM_KEPT ? &e->stats.refreshes : &e->stats.rewarms) += 1;
    if (e->beginning == L2D_REWARM_STILL)
        l2d_sinks_keep_still(e, s, frame);
    if (e->beginning != L2D_REWARM_KEPT)
        l2d_cut_anchor(&e->cut);
    e->rewarm_from = L2D_REWARM_NOTHING;
    l2d_sinks_begin(e, s, frame);
}

// ---- changes

static int change_steps(struct l2d_engine *e, uint32_t set, struct l2d_error *err)
{
    if (set >= e->info.num_step_sets)
        return l2d_error_set(err, L2D_EINVAL, "step set %u: there are %u, from 0", set,
                             e->info.num_step_sets);
    e->step_set_next = set;
    return L2D_OK;
}

static int change_lora(struct l2d_engine *e, const struct l2d_change *c, struct l2d_error *err)
{
    float scale[L2D_MAX_LORAS];
    int32_t index = 0;
    int rc = l2d_engine_find_lora(e, c->text, &index, err);
    memcpy(scale, l2d_engine_loras(e), sizeof(scale));
    scale[index] = c->lora_scale;
    return rc == L2D_OK ? l2d_loras_change(e, scale, err) : rc;
}

static int change_steady(struct l2d_engine *e, double share, struct l2d_error *err)
{
    int rc = l2d_steady_check(share, err);
    if (rc == L2D_OK)
        e->now.steady = (float) share;
    return rc;
}

static int change_mix(struct l2d_engine *e, double mix, struct l2d_error *err)
{
    int rc = l2d_mix_check(mix, err);
    if (rc == L2D_OK && mix > 0 && !e->sources)
        rc = l2d_error_set(err, L2D_EINVAL, "mix: sources are not kept for it; begin with a mix "
                           "above 0, or with can_mix");
    if (rc == L2D_OK)
        e->now.mix = (float) mix;
    return rc;
}

static int change(struct l2d_engine *e, const struct l2d_change *c, struct l2d_error *err)
{
    switch (c->kind) {
    case L2D_CHANGE_PROMPT:
        return l2d_words_change(e, &e->prompt, c, err);
    case L2D_CHANGE_NEGATIVE:
        if (!e->negative_prompt.kv)
            return l2d_error_set(err, L2D_EINVAL, "negative prompt: only the guidance modes full "
                                 "and initialize have one");
        return l2d_words_change(e, &e->negative_prompt, c, err);
    case L2D_CHANGE_BLEND:
        return l2d_words_blend(e, &e->prompt, c, err);
    case L2D_CHANGE_LORA:
        return change_lora(e, c, err);
    case L2D_CHANGE_STEPS:
        return change_steps(e, c->step_set, err);
    case L2D_CHANGE_SEED:
        e->now.seed = c->seed;
        return L2D_OK;
    case L2D_CHANGE_NOISE:
        if ((unsigned) c->noise > L2D_NOISE_ALL_FRESH)
            return l2d_error_set(err, L2D_EINVAL, "noise %d: there is none", (int) c->noise);
        e->now.shared_noise = is_shared(e, c->noise);
        return L2D_OK;
    case L2D_CHANGE_SHOW:
        if ((unsigned) c->show > L2D_SHOW_FROZEN)
            return l2d_error_set(err, L2D_EINVAL, "show %d: there is none", (int) c->show);
        e->show_next = c->show;
        return L2D_OK;
    case L2D_CHANGE_STEADY:
        return change_steady(e, (double) c->steady, err);
    case L2D_CHANGE_MIX:
        return change_mix(e, (double) c->mix, err);
    case L2D_CHANGE_REWARM:
        if (e->warm_done && !e->newest_at)
            e->newest_at = e->frames;
        return L2D_OK;
    }
    return l2d_error_set(err, L2D_EINVAL, "change of kind %d: there is none", (int) c->kind);
}

// It is done, with the next frame or a later one; *first receives which.
static void count_change(struct l2d_engine *e, enum l2d_change_kind kind, uint64_t *first)
{
    e->stats.changes++;
    e->must_draw = true;
    bool gathers = e->frames > 0 && !e->warm_done;
    bool text = kind == L2D_CHANGE_PROMPT || kind == L2D_CHANGE_NEGATIVE ||
                kind == L2D_CHANGE_BLEND;
    bool waits = kind == L2D_CHANGE_STEPS || kind == L2D_CHANGE_SHOW || kind == L2D_CHANGE_LORA;
    if (first)
        *first = !gathers ? e->stats.frames_in : text ? 0 : waits ? L2D_SINKS : e->stats.frames_in;
}

static int refuse_without_model(struct l2d_error *err)
{
    return l2d_error_set(err, L2D_EINVAL, "there is no model: nothing can change");
}

int l2d_engine_change(struct l2d_engine *e, const struct l2d_change *c, uint64_t *first,
                      struct l2d_error *err)
{
    int rc = e->passthrough ? refuse_without_model(err) : change(e, c, err);
    if (rc == L2D_OK)
        count_change(e, c->kind, first);
    return rc;
}

int l2d_engine_set_loras(struct l2d_engine *e, const float scale[L2D_MAX_LORAS], uint64_t *first,
                         struct l2d_error *err)
{
    int rc = e->passthrough ? refuse_without_model(err) : l2d_loras_change(e, scale, err);
    if (rc == L2D_OK)
        count_change(e, L2D_CHANGE_LORA, first);
    return rc;
}

int l2d_engine_set_prompt(struct l2d_engine *e, const char *prompt, struct l2d_error *err)
{
    return e->passthrough ? L2D_OK
         : change(e, &(struct l2d_change) { .kind = L2D_CHANGE_PROMPT, .text = prompt }, err);
}

int l2d_engine_set_negative(struct l2d_engine *e, const char *prompt, struct l2d_error *err)
{
    return change(e, &(struct l2d_change) { .kind = L2D_CHANGE_NEGATIVE, .text = prompt }, err);
}
