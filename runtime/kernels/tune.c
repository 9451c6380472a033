// SPDX-License-Identifier: Apache-2.0
// See tune.h.
#include "kernels/tune.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/dispatch.h"
#include "kernels/tuner.h"

#define MAX_CANDIDATES 64
#define BETTER 0.97
#define NEVER_MS 1e9
#define AWAKE_S 0.3                     // of work before a GPU's clock is what it is under load

struct tuning {
    struct l2d_tuner tuner;
    const struct l2d_gpu_caps *caps;
    const struct l2d_log *log;
    double deadline_s;
    bool has_fast_matrices;     // tier 1 took more than twice as long
    bool has_fast_halves;       // sums in halves are faster
};

static bool is_over(const struct tuning *t)
{
    return l2d_clock_s() >= t->deadline_s;
}

static bool is_fatal(int rc)
{
    return rc != L2D_OK && rc != L2D_EUNSUPPORTED && rc != L2D_EINVAL;
}

static bool uses_matrices(const struct tuning *t, const struct l2d_tune_shape *s)
{
    return t->caps->tier >= L2D_TIER_2 && s->type == L2D_F16;
}

// ---- a shape's candidates, the rule's first

// Beside matrix units, tier 1's tiles are for drivers that emulate these: on one shape two of them
// show whether it does. Parts pay where tiles are few.
static bool is_candidate(const struct tuning *t, const struct l2d_conv_shape *s,
                         const struct l2d_conv_variant *v, const struct l2d_choice *c,
                         const struct l2d_choice *rule, bool fixed)
{
    uint64_t pixels = (uint64_t) s->rows * s->out_h * s->out_w;
    uint64_t tiles = (uint64_t) div_up(pixels, v->pixels) * div_up(s->quads, v->quads);
    bool power = (c->parts & (c->parts - 1)) == 0;
    if (fixed)
        return true;
    if (c->family == L2D_CONV_T1 && rule->family >= L2D_CONV_T2)
        return c->variant <= 1 && c->parts == 1 && !t->has_fast_matrices;
    if (c->family != rule->family)
        return false;
    if (c->family >= L2D_CONV_T2)
        return power && l2d_conv_is_promising(t->caps, s, v);
    return c->parts == 1 || c->parts == rule->parts ||
           (power && tiles < 2 * (uint64_t) (t->caps->num_cores ? t->caps->num_cores : 8) &&
            s->cin * s->ksize * s->ksize / c->parts >= 256);
}

static uint32_t list_convs(const struct tuning *t, const struct l2d_tune_shape *s,
                           struct l2d_choice list[MAX_CANDIDATES])
{
    bool fixed = false;         // family and parts are to stay
    struct l2d_choice rule = l2d_conv_rule(t->tuner.gpu, s->type, &s->conv, &fixed);
    if (t->has_fast_halves && !fixed)
        rule = l2d_conv_in_halves(t->caps, s->type, &s->conv, &rule);
    uint32_t n = 0;
    list[n++] = rule;
    for (uint32_t family = L2D_CONV_T1; family < L2D_CONV_NUM_FAMILIES; family++)
        for (uint32_t parts = 1; parts <= L2D_CONV_MAX_PARTS; parts++) {
            if (fixed && (family != rule.family || parts != rule.parts))
                continue;
            struct l2d_choice c = { family, 0, parts };
            struct l2d_conv_variant v;
            for (; l2d_conv_variant_of(t->caps, s->type, &s->conv, &c, &v); c.variant++)
                if (n < MAX_CANDIDATES && memcmp(&c, &rule, sizeof(c)) != 0 &&
                    is_candidate(t, &s->conv, &v, &c, &rule, fixed))
                    list[n++] = c;
        }
    return n;
}

// All of a tier, or the one that is known of other rows.
static uint32_t list_attentions(const struct tuning *t, const struct l2d_shape *key,
                                const struct l2d_tune_shape *s,
                                struct l2d_choice list[MAX_CANDIDATES])
{
    struct l2d_attention_variant v;
    uint32_t n = 0;
    if (l2d_choices_find(t->tuner.gpu, key, 0, &list[0]) != L2D_CHOICE_NONE)
        return 1;
    for (; n < MAX_CANDIDATES &&
           l2d_attention_variant_of(t->caps, s->type, &s->attention, n, &v); n++)
        list[n] = (struct l2d_choice) { .family = n, .parts = 1 };
    return n > 1 && uses_matrices(t, s) ? n - 1 : n;
}

// 0: nothing has such a shape.
static uint32_t candidates_of(const struct tuning *t, const struct l2d_shape *key,
                              struct l2d_tune_shape *s, struct l2d_choice list[MAX_CANDIDATES])
{
    if (!l2d_tune_shape_of_key(key, s))
        return 0;
    return s->is_attention ? list_attentions(t, key, s, list) : list_convs(t, s, list);
}

// What any GPU runs, which is what matrix units are to compute too; without them, the rule's.
static struct l2d_choice reference_of(const struct tuning *t, const struct l2d_tune_shape *s,
                                      const struct l2d_choice *rule)
{
    struct l2d_choice c = { .parts = 1 };
    struct l2d_attention_variant v;
    if (!uses_matrices(t, s))
        return *rule;
    if (!s->is_attention)
        return (struct l2d_choice) { L2D_CONV_T1, 0, 1 };
    while (l2d_attention_variant_of(t->caps, s->type, &s->attention, c.family + 1, &v))
        c.family++;
    return c;
}

// ---- one shape

static void report(const struct tuning *t, const struct l2d_tune_shape *s,
                   const struct l2d_choice *best, double best_ms, double rule_ms)
{
    char shape[96], variant[64];
    l2d_tune_shape_str(s, shape, sizeof(shape));
    if (t->log && l2d_tune_variant_str(t->caps, s, best, variant, sizeof(variant)))
        l2d_log_print(t->log, L2D_LOG_DEBUG, "%s: %s, %.4f ms; by rule %.4f", shape, variant,
                      best_ms, rule_ms);
}

static void report_one(const struct tuning *t, const struct l2d_tune_shape *s,
                       const struct l2d_choice *c, double ms)
{
    char variant[64];
    if (t->log && l2d_tune_variant_str(t->caps, s, c, variant, sizeof(variant)))
        l2d_log_print(t->log, L2D_LOG_DEBUG, "    %s %.4f ms", variant, ms);
}

// Whether it computes what the reference does; what cannot be compared does not.
static int check(struct tuning *t, const struct l2d_tune_shape *s,
                 const struct l2d_choice *reference, const struct l2d_choice *c, bool *right,
                 struct l2d_error *err)
{
    char shape[96], variant[64];
    *right = memcmp(reference, c, sizeof(*c)) == 0;
    if (*right)
        return L2D_OK;
    struct l2d_tune_shape small = l2d_tune_shape_small(s);
    int rc = l2d_tuner_compare(&t->tuner, &small, reference, c, right, err);
    l2d_tune_shape_str(s, shape, sizeof(shape));
    if (rc == L2D_OK && !*right && t->log &&
        l2d_tune_variant_str(t->caps, s, c, variant, sizeof(variant)))
        l2d_log_print(t->log, L2D_LOG_WARN, "%s: %s is not used, since by this driver its results "
                      "are others", shape, variant);
    return is_fatal(rc) ? rc : L2D_OK;
}

struct found {
    struct l2d_choice reference, best;
    bool fixed;                 // by what is known of other rows
    double best_ms, rule_ms, tier1_ms;
    uint32_t timed;
};

static int time_candidate(struct tuning *t, const struct l2d_tune_shape *s,
                          const struct l2d_choice *c, bool is_rule, struct found *f,
                          struct l2d_error *err)
{
    double ms;
    bool right = true;
    int rc = l2d_tuner_time(&t->tuner, s, c, f->best_ms, &ms, err);
    if (rc != L2D_OK)
        return rc;
    report_one(t, s, c, ms);
    f->timed++;
    if (!s->is_attention && c->family == L2D_CONV_T1 && (f->tier1_ms <= 0 || ms < f->tier1_ms))
        f->tier1_ms = ms;
    if (!is_rule && (ms >= f->best_ms || ms >= BETTER * f->rule_ms))
        return L2D_OK;
    if (!f->fixed)
        rc = check(t, s, &f->reference, c, &right, err);
    if (is_rule || right) {             // whatever is right is better than a rule that is not
        f->best = right ? *c : f->reference;
        f->best_ms = right ? ms : NEVER_MS;
    }
    f->rule_ms = is_rule ? f->best_ms : f->rule_ms;
    return rc;
}

static int tune_shape(struct tuning *t, const struct l2d_shape *key,
                      struct l2d_tune_result *result, struct l2d_error *err)
{
    struct l2d_choice list[MAX_CANDIDATES], known;
    struct l2d_tune_shape s;
    uint32_t n = candidates_of(t, key, &s, list);
    if (!n)
        return L2D_OK;
    struct found f = {
        .reference = reference_of(t, &s, &list[0]), .best = list[0],
        .fixed = l2d_choices_find(t->tuner.gpu, key, 0, &known) != L2D_CHOICE_NONE,
    };
    bool measures = n > 1 && !is_over(t);
    int rc = measures ? l2d_tuner_find_runs(&t->tuner, &s, &list[0], err) : L2D_OK;
    measures &= rc == L2D_OK;
    for (uint32_t i = 0; i < n && measures && !is_fatal(rc) && !is_over(t); i++) {
        rc = time_candidate(t, &s, &list[i], i == 0, &f, err);
        measures = f.rule_ms > 0;       // else nothing can be
    }
    if (is_fatal(rc))
        return rc;
    if (!s.is_attention && list[0].family >= L2D_CONV_T2 && f.tier1_ms > 0)
        t->has_fast_matrices = f.tier1_ms > 2 * f.best_ms;
    result->measured += f.timed > 1;
    result->changed += memcmp(&f.best, &list[0], sizeof(f.best)) != 0;
    if (f.timed > 1)
        report(t, &s, &f.best, f.best_ms, f.rule_ms);
    return l2d_choices_set(t->tuner.gpu, key, &f.best, err);
}

// ---- before any of them

// One shape by rule, the same with sums in halves, and by rule again, since the clock of a GPU
// rises meanwhile.
static int compare_halves(struct tuning *t, const struct l2d_tune_shape *s,
                          const struct l2d_choice *rule, const struct l2d_choice *in_halves,
                          struct l2d_error *err)
{
    double first = 0, halves = 0, again = 0;
    bool right = false;
    int rc = l2d_tuner_time(&t->tuner, s, rule, 0, &first, err);
    if (rc == L2D_OK)
        rc = l2d_tuner_time(&t->tuner, s, in_halves, 0, &halves, err);
    if (rc == L2D_OK)
        rc = l2d_tuner_time(&t->tuner, s, rule, 0, &again, err);
    if (rc != L2D_OK)
        return is_fatal(rc) ? rc : L2D_OK;
    again = again < first ? again : first;
    report_one(t, s, rule, again);
    report_one(t, s, in_halves, halves);
    struct l2d_choice reference = reference_of(t, s, rule);
    if (halves < BETTER * again)
        rc = check(t, s, &reference, in_halves, &right, err);
    t->has_fast_halves = right;
    return rc;
}

// On the first shape that can have them.
static int try_halves(struct tuning *t, const struct l2d_chosen *shapes, uint32_t count,
                      struct l2d_error *err)
{
    for (uint32_t i = 0; i < count && !is_over(t); i++) {
        struct l2d_tune_shape s;
        bool fixed = true;
        if (!l2d_tune_shape_of_key(&shapes[i].shape, &s) || s.is_attention)
            continue;
        struct l2d_choice rule = l2d_conv_rule(t->tuner.gpu, s.type, &s.conv, &fixed);
        struct l2d_choice halves = l2d_conv_in_halves(t->caps, s.type, &s.conv, &rule);
        if (!fixed && halves.family != rule.family)
            return compare_halves(t, &s, &rule, &halves, err);
    }
    return L2D_OK;
}

// The pipelines of all candidates at once: made one by one, in between, they would take longer
// than all else, and let the GPU fall asleep.
static int make_programs(struct tuning *t, const struct l2d_chosen *shapes, uint32_t count,
                         struct l2d_error *err)
{
    struct l2d_choice list[MAX_CANDIDATES];
    struct l2d_tune_shape s;
    for (uint32_t i = 0; i < count && !is_over(t); i++) {
        uint32_t n = candidates_of(t, &shapes[i].shape, &s, list);
        for (uint32_t k = 0; k < n; k++) {
            int rc = l2d_tuner_declare(&t->tuner, &s, &list[k], err);
            if (is_fatal(rc))
                return rc;
        }
        struct l2d_choice reference = n ? reference_of(t, &s, &list[0]) : list[0];
        int rc = n > 1 ? l2d_tuner_declare(&t->tuner, &s, &reference, err) : L2D_OK;
        if (is_fatal(rc))
            return rc;
    }
    return is_over(t) ? L2D_OK : l2d_gpu_make_programs(t->tuner.gpu, err);
}

// Runs the first shape for a while.
static int wake(struct tuning *t, const struct l2d_chosen *shapes, struct l2d_error *err)
{
    struct l2d_choice list[MAX_CANDIDATES];
    struct l2d_tune_shape s;
    double until = l2d_clock_s() + AWAKE_S;
    if (t->caps->type == L2D_GPU_CPU || !candidates_of(t, &shapes[0].shape, &s, list))
        return L2D_OK;
    int rc = l2d_tuner_wake(&t->tuner, &s, &list[0], until < t->deadline_s ? until : t->deadline_s,
                            err);
    return is_fatal(rc) ? rc : L2D_OK;
}

// ---- all of them

static int most_work_first(const void *a, const void *b)
{
    double x = ((const struct l2d_chosen *) a)->flops, y = ((const struct l2d_chosen *) b)->flops;
    return (x < y) - (x > y);
}

static bool is_wanted(const struct l2d_chosen *c, uint32_t max_rows)
{
    return c->flops > 0 && !c->known && c->shape.rows <= max_rows;
}

uint32_t l2d_tune_num_shapes(const struct l2d_gpu *gpu, uint32_t max_rows)
{
    uint32_t all = 0, n = 0;
    const struct l2d_chosen *list = l2d_choices_list(gpu, &all);
    for (uint32_t i = 0; i < all; i++)
        n += is_wanted(&list[i], max_rows);
    return n;
}

// Those to measure, a copy; the caller frees it. NULL: there is none, or no memory.
static struct l2d_chosen *list_shapes(struct l2d_gpu *gpu, uint32_t max_rows, uint32_t *count)
{
    uint32_t all = 0, n = 0;
    const struct l2d_chosen *from = l2d_choices_list(gpu, &all);
    struct l2d_chosen *list = all ? malloc(all * sizeof(*list)) : NULL;
    for (uint32_t i = 0; list && i < all; i++)
        if (is_wanted(&from[i], max_rows))
            list[n++] = from[i];
    if (list)
        qsort(list, n, sizeof(*list), most_work_first);
    *count = n;
    return list;
}

static int tune_all(struct tuning *t, const struct l2d_chosen *list, struct l2d_tune_result *result,
                    struct l2d_error *err)
{
    int rc = try_halves(t, list, result->shapes, err);
    if (rc == L2D_OK)
        rc = make_programs(t, list, result->shapes, err);
    if (rc == L2D_OK)
        rc = wake(t, list, err);
    for (uint32_t i = 0; i < result->shapes && rc == L2D_OK; i++)
        rc = tune_shape(t, &list[i].shape, result, err);
    l2d_gpu_forget_programs(t->tuner.gpu);      // else whoever comes next makes them, or fails to
    return rc;
}

int l2d_tune(struct l2d_gpu *gpu, const struct l2d_tune_params *p, struct l2d_tune_result *result,
             struct l2d_error *err)
{
    double begin = l2d_clock_s();
    struct tuning t = {
        .caps = l2d_gpu_caps(gpu), .log = p->log, .deadline_s = begin + p->seconds,
    };
    *result = (struct l2d_tune_result) { 0 };
    if (t.caps->timestamp_ns <= 0)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "tune: %s has no timestamps", t.caps->name);
    struct l2d_chosen *list = list_shapes(gpu, p->max_rows, &result->shapes);
    int rc = L2D_OK;
    if (result->shapes) {
        rc = l2d_tuner_open(&t.tuner, gpu, list, result->shapes, err);
        if (rc == L2D_OK)
            rc = tune_all(&t, list, result, err);
        l2d_tuner_close(&t.tuner);
    }
    free(list);
    result->seconds = l2d_clock_s() - begin;
    return rc;
}
