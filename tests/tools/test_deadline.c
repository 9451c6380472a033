// SPDX-License-Identifier: Apache-2.0
// The deadline's controller against a simulated source and model: frames come at a rate, one waits,
// the newest, and each takes as long as the load and the number of steps say.
#include <string.h>

#include <criterion/criterion.h>

#include "deadline.h"

#define INTERVAL_S 0.04
#define MAX_CHANGES 64

struct sim {
    struct deadline d;
    double (*work_s)(int32_t steps, double now_s);
    double now_s, next_s;               // next_s: when a frame arrives
    double busy_s, working_s, waiting_s;    // until when; arrival of which frame; 0: none
    double ring_s[L2D_MAX_STEPS];       // arrivals of the frames in flight of a batch, oldest first
    int32_t in_ring, rewarming;
    uint32_t set;                       // the model's
    double changed_s[MAX_CHANGES];
    uint32_t random;
};

static const int32_t four_two_one[] = { 4, 2, 1 };

static void sim_init(struct sim *sim, double limit_s, bool batch,
                     double (*work_s)(int32_t steps, double now_s))
{
    *sim = (struct sim) { .work_s = work_s, .next_s = 1 };
    struct deadline_params params = { .limit_s = limit_s, .batch = batch, .num_sets = 3 };
    memcpy(params.steps, four_two_one, sizeof(four_two_one));
    deadline_init(&sim->d, &params);
}

static double jitter(struct sim *sim)           // -1 to 1
{
    sim->random = sim->random * 1664525 + 1013904223;
    return (double) (sim->random >> 8) / (1 << 23) - 1;
}

static int32_t steps_of(const struct sim *sim)
{
    return sim->d.params.steps[sim->set];
}

static void decide(struct sim *sim)
{
    uint32_t set = deadline_choose(&sim->d);
    if (set == sim->d.set)
        return;
    cr_assert_lt(sim->d.stats.changes, MAX_CHANGES);
    sim->changed_s[sim->d.stats.changes] = sim->now_s;
    deadline_change(&sim->d, set, sim->now_s);
}

static void leave(struct sim *sim, double arrival_s)
{
    deadline_frame(&sim->d, arrival_s, sim->now_s);
    decide(sim);
}

static void begin_work(struct sim *sim, double arrival_s)
{
    sim->working_s = arrival_s;
    double work_s = sim->work_s(steps_of(sim), sim->now_s);
    if (sim->set != sim->d.set) {
        for (int32_t i = 0; i < sim->in_ring; i++)
            leave(sim, sim->ring_s[i]);
        sim->in_ring = 0;
        sim->set = sim->d.set;
        work_s = sim->work_s(steps_of(sim), sim->now_s);
        sim->rewarming = steps_of(sim);
    }
    if (sim->rewarming > 0 && sim->rewarming--)
        work_s += 8 * work_s;
    sim->busy_s = sim->now_s + work_s * (1 + 0.1 * jitter(sim));
}

static void end_work(struct sim *sim)
{
    sim->now_s = sim->busy_s;
    double leaves_s = sim->working_s;
    sim->working_s = 0;
    if (sim->d.params.batch) {
        sim->ring_s[sim->in_ring++] = leaves_s;
        leaves_s = 0;
        if (sim->in_ring == steps_of(sim)) {
            leaves_s = sim->ring_s[0];
            memmove(sim->ring_s, sim->ring_s + 1, sizeof(sim->ring_s) - sizeof(*sim->ring_s));
            sim->in_ring--;
        }
    }
    if (leaves_s > 0)
        leave(sim, leaves_s);
    if (sim->waiting_s > 0) {
        double next_s = sim->waiting_s;
        sim->waiting_s = 0;
        begin_work(sim, next_s);
    }
}

static void arrive(struct sim *sim)
{
    sim->now_s = sim->next_s;
    sim->next_s += INTERVAL_S * (1 + 0.2 * jitter(sim));
    if (sim->working_s <= 0) {
        begin_work(sim, sim->now_s);
        return;
    }
    if (sim->waiting_s > 0) {
        deadline_drop(&sim->d, sim->now_s);
        decide(sim);
    }
    sim->waiting_s = sim->now_s;
}

static void run_until(struct sim *sim, double until_s)
{
    while (sim->next_s < until_s)
        if (sim->working_s > 0 && sim->busy_s <= sim->next_s)
            end_work(sim);
        else
            arrive(sim);
}

static uint64_t changes(const struct sim *sim)
{
    return sim->d.stats.changes;
}

// --- loads

static double heavy(int32_t steps, double now_s)        // one step alone takes longer than a frame
{
    (void) now_s;
    return 0.05 * steps;
}

static double light(int32_t steps, double now_s)
{
    (void) now_s;
    return 0.006 * steps;
}

static double spike_s;

static double spike(int32_t steps, double now_s)        // one frame takes long, from second 30 on
{
    static double spiked_s;
    if (now_s < 30)
        spiked_s = 0;
    if (now_s < 30 || spiked_s > 0)
        return light(steps, now_s);
    return spiked_s = spike_s;
}

static double busy_for_a_while(int32_t steps, double now_s)
{
    return light(steps, now_s) * (now_s > 20 && now_s < 60 ? 10 : 1);
}

static double by_turns(int32_t steps, double now_s)     // 30 s each
{
    return light(steps, now_s) * ((int) now_s / 30 % 2 ? 10 : 1);
}

static double between_two(int32_t steps, double now_s)  // two steps seem to fit, as twice one would
{
    (void) now_s;
    return steps == 1 ? 0.012 : 0.03 * steps;
}

static double mixed(int32_t steps, double now_s)        // two steps fit, by a little
{
    (void) now_s;
    return 0.015 * steps;
}

// --- what it does

Test(deadline, steady_overload_goes_to_the_fewest_steps_and_stays)
{
    for (int batch = 0; batch < 2; batch++) {
        struct sim sim;
        sim_init(&sim, 0.1, batch, heavy);
        run_until(&sim, 30);
        cr_expect(sim.d.set == 2 && changes(&sim) == 2, "set %u", sim.d.set);
        run_until(&sim, 1000);
        cr_expect(sim.d.set == 2 && changes(&sim) == 2, "%d changes", (int) changes(&sim));
        cr_expect_gt(sim.d.stats.frames[1], 15000);
        cr_expect_gt(sim.d.stats.frames[4], 0);
    }
}

Test(deadline, one_that_nothing_meets_stays_at_the_fewest_steps)
{
    struct sim sim;
    sim_init(&sim, 0.001, true, light);
    run_until(&sim, 1000);
    cr_expect(sim.d.set == 2 && changes(&sim) == 2, "%d changes", (int) changes(&sim));
    cr_expect_lt(sim.changed_s[1], 10);
}

Test(deadline, what_fits_is_left_alone)
{
    struct sim sim;
    sim_init(&sim, 0.2, true, light);
    run_until(&sim, 1000);
    cr_expect(sim.d.set == 0 && changes(&sim) == 0);
}

Test(deadline, a_short_spike_changes_nothing)
{
    for (int i = 1; i < 10; i++)
        for (int batch = 0; batch < 2; batch++) {
            struct sim sim;
            spike_s = 0.1 * i;
            sim_init(&sim, 0.2, batch, spike);
            run_until(&sim, 60);
            cr_expect_eq(changes(&sim), 0, "%g s", spike_s);
        }
}

Test(deadline, comes_back_up_when_the_load_goes)
{
    for (int batch = 0; batch < 2; batch++) {
        struct sim sim;
        sim_init(&sim, 0.2, batch, busy_for_a_while);
        run_until(&sim, 58);
        cr_expect(sim.d.set == 2 && changes(&sim) == 2);
        cr_expect_lt(sim.changed_s[0], 24);
        run_until(&sim, 68);
        cr_expect_eq(sim.d.set, 2);             // not at once
        run_until(&sim, 95);
        cr_expect(sim.d.set == 0 && changes(&sim) == 4);
        run_until(&sim, 1000);
        cr_expect(sim.d.set == 0 && changes(&sim) == 4);
    }
}

Test(deadline, does_not_flap_between_two_sets)
{
    static double (*const loads[])(int32_t, double) = { between_two, by_turns };
    for (int i = 0; i < 2; i++) {
        struct sim sim;
        sim_init(&sim, 0.15, false, loads[i]);
        run_until(&sim, 1000);
        uint64_t half = 0;
        while (half < changes(&sim) && sim.changed_s[half] < 500)
            half++;
        cr_expect_gt(changes(&sim), 2);         // it did try
        cr_expect_leq(changes(&sim), 16, "load %d: %d changes", i, (int) changes(&sim));
        cr_expect_lt(changes(&sim) - half, half, "load %d: ever fewer", i);
    }
}

Test(deadline, stays_where_only_fewer_steps_fit)
{
    struct sim sim;
    sim_init(&sim, 0.1, false, mixed);
    run_until(&sim, 1000);
    cr_expect(sim.d.set == 1 && changes(&sim) == 1, "%d changes", (int) changes(&sim));
}

// In a batch of two a frame waits for another, whatever the work: that is known beforehand.
Test(deadline, knows_what_a_batch_waits)
{
    struct sim sim;
    sim_init(&sim, 0.045, true, light);
    run_until(&sim, 1000);
    cr_expect(sim.d.set == 2 && changes(&sim) == 2, "%d changes", (int) changes(&sim));
}

// --- who comes first

Test(deadline, never_draws_with_more_steps_than_asked_for)
{
    struct sim sim;
    sim_init(&sim, 0.2, true, light);
    run_until(&sim, 5);
    deadline_ask(&sim.d, 1, sim.now_s);
    run_until(&sim, 200);
    cr_expect(sim.d.set == 1 && changes(&sim) == 0);
    deadline_ask(&sim.d, 0, sim.now_s);
    cr_expect_eq(sim.d.set, 0);
    run_until(&sim, 400);
    cr_expect(sim.d.set == 0 && changes(&sim) == 0);
}

Test(deadline, what_is_asked_for_is_in_effect_at_once_and_left_if_it_is_late)
{
    struct sim sim;
    sim_init(&sim, 0.1, true, heavy);
    run_until(&sim, 30);
    cr_expect_eq(sim.d.set, 2);
    deadline_ask(&sim.d, 0, sim.now_s);
    cr_expect_eq(sim.d.set, 0);
    run_until(&sim, 60);
    cr_expect(sim.d.set == 2 && changes(&sim) == 4);
}

// --- single frames

static struct deadline small(int32_t a, int32_t b, int32_t c, int32_t d)
{
    struct deadline deadline;
    deadline_init(&deadline, &(struct deadline_params) {
        .limit_s = 0.1, .num_sets = 4, .steps = { a, b, c, d },
    });
    return deadline;
}

static double frames(struct deadline *d, int count, double now_s, double took_s)
{
    for (int i = 0; i < count; i++, now_s += INTERVAL_S)
        deadline_frame(d, now_s - took_s, now_s);
    return now_s;
}

Test(deadline, takes_sets_in_order_of_their_steps)
{
    struct deadline d = small(3, 1, 2, 2);
    static const uint32_t down[] = { 2, 1, 1 }, up[] = { 2, 0, 0 };
    double now_s = 10;
    for (int i = 0; i < 3; i++) {
        now_s = frames(&d, 50, now_s + 0.5, 0.3);
        cr_expect_eq(deadline_choose(&d), down[i]);
        if (d.set != down[i])
            deadline_change(&d, down[i], now_s);
    }
    for (int i = 0; i < 3; i++) {
        now_s = frames(&d, 600, now_s + 0.5, 0.001);
        cr_expect_eq(deadline_choose(&d), up[i]);
        if (d.set != up[i])
            deadline_change(&d, up[i], now_s);
    }
    deadline_ask(&d, 3, now_s);                 // the other one with two steps
    now_s = frames(&d, 50, now_s + 0.5, 0.3);
    cr_expect_eq(deadline_choose(&d), 1);
    deadline_change(&d, 1, now_s);
    frames(&d, 600, now_s + 0.5, 0.001);
    cr_expect_eq(deadline_choose(&d), 3);
}

Test(deadline, does_not_count_what_was_in_flight_or_warms_up)
{
    struct deadline d = small(2, 1, 1, 1);
    double now_s = frames(&d, 10, 10, 5);       // the beginning's
    cr_expect_eq(deadline_look(&d).frames, 0);
    now_s = frames(&d, 40, now_s, 0.3);
    cr_expect_eq(deadline_choose(&d), 1);
    deadline_change(&d, 1, now_s);
    now_s = frames(&d, 5, now_s, 0.3);          // came before
    deadline_drop(&d, now_s);
    now_s = frames(&d, 10, now_s + 0.5, 0.3);
    cr_expect_eq(deadline_look(&d).frames, 0);
    cr_expect(d.stats.frames[2] == 55 && d.stats.frames[1] == 10);
    now_s = frames(&d, 2, now_s, 0.3);
    deadline_drop(&d, now_s);
    struct deadline_look look = deadline_look(&d);
    cr_expect(look.frames == 3 && look.slow == 2 && look.dropped == 1);
}

Test(deadline, drops_alone_are_late)
{
    struct deadline d = small(2, 1, 1, 1);
    double now_s = frames(&d, 60, 10, 0.01);
    for (int i = 0; i < 5; i++) {
        now_s = frames(&d, 10, now_s, 0.01);
        deadline_drop(&d, now_s);
    }
    cr_expect_eq(deadline_choose(&d), 0);       // 4 or 5 of 100
    for (int i = 0; i < 5; i++) {
        now_s = frames(&d, 10, now_s, 0.01);
        deadline_drop(&d, now_s);
        deadline_drop(&d, now_s);
    }
    cr_expect_eq(deadline_choose(&d), 1);
}

Test(deadline, a_source_that_is_lost_is_no_calm)
{
    struct deadline d = small(2, 1, 1, 1);
    double now_s = frames(&d, 50, 10, 0.3);
    deadline_change(&d, 1, now_s);
    now_s = frames(&d, 30, now_s + 1, 0.001);
    now_s = frames(&d, 30, now_s + 60, 0.001);
    cr_expect_eq(deadline_choose(&d), 1);
    frames(&d, 300, now_s, 0.001);
    cr_expect_eq(deadline_choose(&d), 0);
}
