// SPDX-License-Identifier: Apache-2.0
// Timesteps and factors against those of the published pipeline (diffusers' LCMScheduler, fp32),
// and the text of --steps.
#include "pipeline/scheduler.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static const struct l2d_scheduler_config config = {
    .num_train_timesteps = 1000, .beta_start = 0.00085, .beta_end = 0.012,
};

Test(scheduler, timesteps)
{
    static const struct { int of, want[8]; } cases[] = {
        { 1, { 999 } },
        { 2, { 999, 499 } },
        { 3, { 999, 679, 339 } },
        { 4, { 999, 759, 499, 259 } },
        { 5, { 999, 799, 599, 399, 199 } },
        { 6, { 999, 839, 679, 499, 339, 179 } },
        { 8, { 999, 879, 759, 639, 499, 379, 259, 139 } },
    };
    static const int all[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_schedule s;
        cr_assert_eq(l2d_schedule_init(&s, &config, all, cases[i].of, cases[i].of, NULL), L2D_OK);
        cr_assert_eq(s.num_steps, cases[i].of);
        for (int k = 0; k < s.num_steps; k++)
            cr_assert_eq(s.timestep[k], cases[i].want[k], "%d of %d", k, cases[i].of);
    }
    for (int index = 0; index < 50; index++) {
        struct l2d_schedule s;
        cr_assert_eq(l2d_schedule_init(&s, &config, &index, 1, 50, NULL), L2D_OK);
        cr_assert_eq(s.timestep[0], 999 - 20 * index);
    }
}

Test(scheduler, factors)
{
    static const struct { int index, of, tau; double a, b, c_skip; } cases[] = {
        { 30, 50, 399, 0.539859712, 0.841755033, 1.570e-8 },
        { 36, 50, 279, 0.713594139, 0.700559318, 3.212e-8 },
        { 42, 50, 159, 0.870126605, 0.492828250, 9.889e-8 },
        { 25, 50, 499, 0.402258843, 0.915525973, 1.004e-8 },
        { 34, 50, 319, 0.656079888, 0.754691482, 2.457e-8 },
        { 43, 50, 139, 0.892348230, 0.451347560, 1.294e-7 },
        { 20, 50, 599, 0.283359200, 0.959013820, 6.968e-9 },
        { 27, 50, 459, 0.455555528, 0.890207350, 1.187e-8 },
        { 41, 50, 179, 0.846561551, 0.532290816, 7.803e-8 },
        { 31, 50, 379, 0.568736672, 0.822519660, 1.740e-8 },
        { 37, 50, 259, 0.741717398, 0.670712531, 3.727e-8 },
        { 40, 50, 199, 0.821792960, 0.569786251, 6.313e-8 },
        { 35, 50, 299, 0.685000300, 0.728542805, 2.796e-8 },
        { 45, 50, 99, 0.932230055, 0.361866236, 2.551e-7 },
        { 1, 4, 759, 0.143900543, 0.989592135, 4.340e-9 },
        { 0, 4, 999, 0.039736163, 0.999210179, 2.505e-9 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_schedule s;
        cr_assert_eq(l2d_schedule_init(&s, &config, &cases[i].index, 1, cases[i].of, NULL), L2D_OK);
        cr_assert_eq(s.timestep[0], cases[i].tau);
        cr_assert_float_eq(s.a[0], cases[i].a, 1e-6, "case %zu: a %.9g", i, s.a[0]);
        cr_assert_float_eq(s.b[0], cases[i].b, 1e-6, "case %zu: b %.9g", i, s.b[0]);
        cr_assert_float_eq(s.c_skip[0], cases[i].c_skip, 1e-3 * cases[i].c_skip, "case %zu", i);
        cr_assert_float_eq(s.c_out[0], 1, 2e-7);
    }
}

// x0 = (x - b eps) / a, or a x - b v: the same x0 where v = a eps - b x0.
Test(scheduler, predictions)
{
    for (int index = 0; index < 50; index++) {
        struct l2d_scheduler_config v_config = config;
        struct l2d_schedule e, v;
        v_config.prediction = L2D_PREDICT_V;
        cr_assert_eq(l2d_schedule_init(&e, &config, &index, 1, 50, NULL), L2D_OK);
        cr_assert_eq(l2d_schedule_init(&v, &v_config, &index, 1, 50, NULL), L2D_OK);
        cr_assert(e.pred_a[0] == e.a[0] && e.pred_b[0] == e.b[0]);
        double a = (double) v.a[0], b = (double) v.b[0], x0 = 0.7, eps = -1.3;
        double x = a * x0 + b * eps, said = a * eps - b * x0;
        double got = (x - (double) v.pred_b[0] * said) / (double) v.pred_a[0];
        cr_assert_float_eq(got, x0, 1e-6, "index %d: %g", index, got);
        cr_assert_float_eq(a * x - b * said, x0, 1e-6);
    }
}

Test(scheduler, refuses_bad_indices)
{
    static const struct { int index[9], num, of; const char *want; } cases[] = {
        { { 0 }, 0, 50, "0 steps; 1 to 8" },
        { { 0, 1, 2, 3, 4, 5, 6, 7, 8 }, 9, 50, "9 steps; 1 to 8" },
        { { 0 }, 1, 0, "0 inference steps" },
        { { 0 }, 1, 51, "51 inference steps" },
        { { 4 }, 1, 4, "step 4 is not within 0..3" },
        { { -1 }, 1, 4, "step -1 is not within" },
        { { 5, 5 }, 2, 50, "step 5 does not follow 5" },
        { { 37, 25 }, 2, 50, "step 25 does not follow 37" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct l2d_schedule s;
        struct l2d_error err = { 0 };
        int rc = l2d_schedule_init(&s, &config, cases[i].index, cases[i].num, cases[i].of, &err);
        cr_assert_eq(rc, L2D_EINVAL, "case %zu", i);
        cr_assert(strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
    }
}

Test(scheduler, parse)
{
    static const struct { const char *text; int num, of, want[8]; } cases[] = {
        { "25,37/50", 2, 50, { 25, 37 } },
        { "25,37", 2, 40, { 25, 37 } },                 // of the model's 40
        { "0", 1, 40, { 0 } },
        { "0/1", 1, 1, { 0 } },
        { "0,1,2,3,4,5,6,7/8", 8, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },
        { "025,037/050", 2, 50, { 25, 37 } },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int index[L2D_MAX_STEPS] = { 0 }, num = 0, of = 40;
        struct l2d_error err = { 0 };
        int rc = l2d_schedule_parse(cases[i].text, index, &num, &of, &err);
        cr_assert_eq(rc, L2D_OK, "%s", err.msg);
        cr_assert_eq(num, cases[i].num);
        cr_assert_eq(of, cases[i].of);
        cr_assert_eq(memcmp(index, cases[i].want, sizeof(index)), 0, "%s", cases[i].text);
    }
}

Test(scheduler, text_is_what_parse_reads)
{
    char text[L2D_STEPS_TEXT];
    const int index[] = { 0, 43, 47, 49 }, most[] = { 42, 43, 44, 45, 46, 47, 48, 49 };
    l2d_schedule_text(text, index, 4, 50);
    cr_expect_str_eq(text, "0,43,47,49/50");
    l2d_schedule_text(text, index, 1, 4);
    cr_expect_str_eq(text, "0/4");
    l2d_schedule_text(text, most, L2D_MAX_STEPS, L2D_MAX_INFERENCE_STEPS);
    cr_expect_str_eq(text, "42,43,44,45,46,47,48,49/50");
}

Test(scheduler, parse_refuses)
{
    static const char *const cases[] = {
        "", ",", "/", "/50", "a", "25,", ",25", "25,,37", "25/", "25/x", "25 ,37", " 25",
        "25/50/50", "25;37", "-1", "+1", "25.5", "1e1", "0x10", "25,37/50 ", "25/0", "25/51",
        "50/50", "40", "37,25/50", "25,25/50", "99999999999999999999", "0/99999999999999999999",
        "1000/1000",
        "0,1,2,3,4,5,6,7,8/50", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23/50",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int index[L2D_MAX_STEPS] = { 7 }, num = 3, of = 40;
        struct l2d_error err = { 0 };
        int rc = l2d_schedule_parse(cases[i], index, &num, &of, &err);
        cr_assert_eq(rc, L2D_EINVAL, "%s", cases[i]);
        cr_assert(strstr(err.msg, "25,37/50"), "%s", err.msg);
        cr_assert(index[0] == 7 && num == 3 && of == 40, "%s", cases[i]);
    }
}
