/* Neurons against the equation, one at a time: spikes and membranes to the bit, gradients to rounding. */
#include "check.h"

#include "../../src/native/lif.h"

#include <math.h>
#include <stdlib.h>

enum { RESETS = RESET_UNDECAYED + 1 };

static const int64_t sizes[] = {1, 2, 15, 31, 63, 64, 65, 127, 257, 700, 2051, 8197, -1};
static const int64_t steps[] = {1, 1, 2, 3, 5, -1};

/* What neuron i hears at step s: the input, or what a norm makes of it. */
static float current(const lif_call *c, int64_t s, int64_t i) {
    float x = load(c->x, s * c->x_step + i, c->bf16);
    if (!c->scale) return x;
    int64_t k = i % c->channels + s * c->norm_step;
    float product = x * c->scale[k];
    return product + c->shift[k];
}

/* A neuron through all steps: its membranes before the reset and after the step, whether it fired, and
 * whether the floor raised it. */
typedef struct {
    float first; /* membrane before the first step */
    float *before, *after;
    unsigned char *fired, *raised;
} course;

static course room_for(int64_t steps) {
    return (course){.before = exactly(steps * 4), .after = exactly(steps * 4), .fired = exactly(steps),
                    .raised = exactly(steps)};
}

static void give_back(course *n) { free(n->before), free(n->after), free(n->fired), free(n->raised); }

static void follow(const lif_call *c, int64_t i, course *n) {
    float u = c->before ? c->before[i] : c->half_initial ? c->threshold / 2.0f : 0.0f;
    n->first = u;
    for (int64_t s = 0; s < c->steps; s++) {
        float m = c->leak * u + current(c, s, i);
        if (c->reset == RESET_UNDECAYED && u / c->threshold - 1.0f > 0.0f) m -= c->threshold;
        int fired = m / c->threshold - 1.0f > 0.0f;
        n->before[s] = m;
        n->fired[s] = (unsigned char)fired;
        if (c->reset == RESET_SOFT) u = m - c->threshold * (float)fired;
        else u = c->reset == RESET_HARD && fired ? 0.0f : m;
        n->raised[s] = !isinf(c->floor) && u < -c->floor * c->threshold;
        if (n->raised[s]) u = -c->floor * c->threshold;
        n->after[s] = u;
    }
}

static double derivative(const lif_call *c, float m) {
    double z = (double)m / c->threshold - 1.0, scale = c->surrogate_scale, width = c->surrogate_width;
    double pi = 3.14159265358979323846, e;
    switch (c->surrogate) {
    case SURROGATE_TRIANGLE: return scale * fmax(0.0, 1.0 - fabs(z) / width);
    case SURROGATE_ARCTAN: return scale / 2.0 / (1.0 + pow(pi / 2.0 * scale * z, 2.0));
    case SURROGATE_SIGMOID: return e = exp(-fabs(scale * z)), scale * e / ((1.0 + e) * (1.0 + e));
    default: return fabsf(m / c->threshold - 1.0f) < c->surrogate_width / 2.0f ? 1.0 / width : 0.0;
    }
}

/* dL/dleak or dL/dthreshold, and the sizes of its terms, which may cancel. */
typedef struct {
    double value, size;
} sum;

static void add(sum *to, double term) { to->value += term, to->size += fabs(term); }

/* dL/dx of each step, to `grad_x`; adds to the sums. */
static void follow_back(const lif_call *c, int64_t i, const course *n, double *grad_x, sum sums[2]) {
    double v = c->threshold, height = c->threshold_height ? v : 1.0, later = 0.0;
    for (int64_t s = c->steps - 1; s >= 0; s--) {
        double m = n->before[s], fired = n->fired[s], raised = n->raised[s], passed = raised ? 0.0 : later;
        double g = load(c->grad, s * c->grad_step + i, c->bf16);
        double to_z = g * height * derivative(c, n->before[s]);
        add(&sums[0], later * n->after[s]);
        add(&sums[1], -to_z * m / (v * v));
        if (raised) add(&sums[1], -c->floor * c->leak * later);
        if (c->reset == RESET_SOFT) add(&sums[1], -fired * c->leak * passed);
        if (c->reset == RESET_UNDECAYED) add(&sums[1], -fired * passed);
        if (c->threshold_height) add(&sums[1], g * fired);
        later = to_z / v + (c->reset == RESET_HARD && fired ? 0.0 : c->leak * passed);
        grad_x[s] = later;
    }
    add(&sums[0], later * n->first);
    if (c->half_initial) add(&sums[1], later * c->leak / 2.0);
}

static void describe_and_fail(const lif_call *c, const char *what, int64_t i, double found, double wanted) {
    fail("lif: %s of neuron %lld is %.9g, not %.9g (size %lld, %lld steps, reset %d, half %d, height %d, "
         "surrogate %d, bf16 %d, static %d, leak %g, threshold %g, floor %g, instructions %d)",
         what, (long long)i, found, wanted, (long long)c->size, (long long)c->steps, c->reset,
         c->half_initial, c->threshold_height, c->surrogate, c->bf16, c->static_x, (double)c->leak,
         (double)c->threshold, (double)c->floor, c->means.instructions);
}

static void expect_same(const lif_call *c, const char *what, int64_t i, float found, float wanted) {
    if (!(found == wanted || (isnan(found) && isnan(wanted))))
        describe_and_fail(c, what, i, (double)found, (double)wanted);
}

static void check_forward(const lif_call *c) {
    course n = room_for(c->steps);
    float high = c->threshold_height ? c->threshold : 1.0f;
    if (c->bf16) high = from_bfloat16(to_bfloat16(high));
    for (int64_t i = 0; i < c->size; i++) {
        follow(c, i, &n);
        for (int64_t s = 0; s < c->steps; s++)
            expect_same(c, "a spike", i, load(c->spikes, s * c->size + i, c->bf16),
                        n.fired[s] ? high : 0.0f);
        if (c->after) expect_same(c, "the membrane", i, c->after[i], n.after[c->steps - 1]);
    }
    give_back(&n);
}

static void expect_near(const lif_call *c, const char *what, int64_t i, double found, double wanted,
                        double size) {
    double rounding = c->bf16 ? 1.0 / 128.0 : 2e-5;
    if (!(fabs(found - wanted) <= rounding * fabs(wanted) + 5e-5 * size) &&
        !(isnan(found) && isnan(wanted)))
        describe_and_fail(c, what, i, found, wanted);
}

/* The derivatives of the mean output, with the membranes', from the first step to the last. */
static void check_rates(const lif_call *c) {
    course n = room_for(c->steps);
    const double v = c->threshold, height = c->threshold_height ? v : 1.0, steps = (double)c->steps;
    const double steepest = (c->surrogate_scale + 1.0 / c->surrogate_width) * fmax(1.0, 1.0 / fabs(v));
    for (int64_t i = 0; i < c->size; i++) {
        follow(c, i, &n);
        double input = 0.0, leak = 0.0, threshold = c->half_initial ? 0.5 : 0.0, last = n.first;
        double by_input = 0.0, by_leak = 0.0, by_threshold = 0.0, fired = 0.0, size = 0.4 * steepest;
        for (int64_t s = 0; s < c->steps; s++) {
            double m = n.before[s], slope = height * derivative(c, n.before[s]) / v;
            int fires = n.fired[s];
            if (s > 0) last = n.after[s - 1];
            input = c->leak * input + 1.0, leak = c->leak * leak + last, threshold *= c->leak;
            if (c->reset == RESET_UNDECAYED && last / v - 1.0 > 0.0) threshold -= 1.0;
            by_input += slope * input, by_leak += slope * leak, by_threshold += slope * (threshold - m / v);
            size += fabs(slope) * (fabs(input) + fabs(leak) + fabs(threshold) + fabs(m / v));
            fired += fires;
            if (c->reset == RESET_SOFT) threshold -= fires;
            if (c->reset == RESET_HARD && fires) input = leak = threshold = 0.0;
            if (!isinf(c->floor) && n.after[s] <= -c->floor * c->threshold)
                input = leak = 0.0, threshold = -c->floor;
        }
        if (c->threshold_height) by_threshold += fired;
        float high = c->threshold_height ? c->threshold : 1.0f;
        if (c->bf16) high = from_bfloat16(to_bfloat16(high));
        expect_near(c, "the mean", i, load(c->mean, i, c->bf16), fired * high / steps, 0.01);
        expect_near(c, "d/dinput", i, c->by_input[i], by_input / steps, size);
        if (!c->by_leak) continue;
        expect_near(c, "d/dleak", i, c->by_leak[i], by_leak / steps, size);
        expect_near(c, "d/dthreshold", i, c->by_threshold[i], by_threshold / steps, size);
    }
    give_back(&n);
}

/* Largest errors: a few roundings of a value, and of the largest that there may be. */
static void check_grad_x(const lif_call *c, int64_t i, const double *grad_x, double largest) {
    double rounding = c->bf16 ? 1.0 / 128.0 : 2e-5, mean = 0.0;
    for (int64_t s = 0; s < c->steps; s++) {
        mean += grad_x[s] / (double)c->steps;
        if (c->static_x) continue;
        double found = load(c->grad_x, s * c->size + i, c->bf16);
        if (!(fabs(found - grad_x[s]) <= rounding * fabs(grad_x[s]) + 2e-5 * largest))
            describe_and_fail(c, "dL/dx", i, found, grad_x[s]);
    }
    double found = c->static_x ? load(c->grad_x, i, c->bf16) : mean;
    if (!(fabs(found - mean) <= rounding * fabs(mean) + 2e-5 * largest))
        describe_and_fail(c, "dL/dx (static)", i, found, mean);
}

/* Sums of dL/d(input), and of its products with x - centre, of each channel. */
static void check_norm_sums(const lif_call *c, const sum *sums) {
    int64_t rows = 2 * (c->norm_step ? c->steps : 1);
    for (int64_t i = 0; i < rows * c->channels; i++)
        if (!(fabs(c->grad_norm[i] - sums[i].value) <= 5e-5 * sums[i].size + 1e-6))
            describe_and_fail(c, "a channel's sum", i, c->grad_norm[i], sums[i].value);
}

static void add_norm_sums(const lif_call *c, int64_t i, const double *grad_x, sum *sums) {
    for (int64_t s = 0; s < c->steps; s++) {
        int64_t k = i % c->channels, at = (c->norm_step ? 2 * s : 0) * c->channels + k;
        double moved = (double)load(c->x, s * c->x_step + i, c->bf16);
        moved -= c->centre[k + s * c->norm_step];
        add(&sums[at], grad_x[s]);
        add(&sums[at + c->channels], grad_x[s] * moved);
    }
}

static void check_backward(const lif_call *c) {
    course n = room_for(c->steps);
    double *grad_x = exactly(c->steps * 8), slope = c->surrogate_scale + 1.0 / c->surrogate_width;
    double largest = 4.0 * slope * (double)c->steps * fmax(1.0, 1.0 / fabs((double)c->threshold));
    sum sums[2] = {{0.0, 0.0}, {0.0, 0.0}};
    int64_t groups = c->norm_step ? c->steps : 1;
    sum *channels = calloc((size_t)(2 * groups * c->channels + 1), sizeof *channels);
    for (int64_t i = 0; i < c->size; i++) {
        follow(c, i, &n);
        follow_back(c, i, &n, grad_x, sums);
        if (c->grad_norm) add_norm_sums(c, i, grad_x, channels);
        if (c->grad_x) check_grad_x(c, i, grad_x, largest);
    }
    for (int k = 0; c->grad_neuron && k < 2; k++)
        if (!(fabs(c->grad_neuron[k] - sums[k].value) <= 5e-5 * sums[k].size + 1e-6))
            describe_and_fail(c, k ? "dL/dthreshold" : "dL/dleak", -1, c->grad_neuron[k], sums[k].value);
    if (c->grad_norm) check_norm_sums(c, channels);
    give_back(&n), free(grad_x), free(channels);
}

/* Normal numbers and multiples of a quarter threshold, so that many membranes tie with it; in the
 * forward pass also some that are none. */
static void *some_values(dice *d, const lif_call *c, int64_t elements, int special) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e-40f, -0.0f, 3e38f};
    void *data = tensor(elements, c->bf16);
    for (int64_t i = 0; i < elements; i++) {
        float value = below(d, 2) ? normal(d) * c->threshold
                                  : (float)(below(d, 9) - 2) * (c->threshold / 4.0f);
        if (special && below(d, 20) == 0) value = odd[below(d, 6)];
        put(data, i, value, c->bf16);
    }
    return data;
}

static void run(const lif_call *c) {
    if (leanspike_lif(c)) fail("lif: no memory");
}

/* Spikes, and what comes with them for rate gradients. */
static void run_rates(dice *d, lif_call c) {
    c.x = some_values(d, &c, (c.steps - 1) * c.x_step + c.size, 0);
    c.spikes = tensor(c.size * c.steps, c.bf16);
    c.mean = tensor(c.size, c.bf16);
    c.by_input = exactly(c.size * 4);
    if (below(d, 2)) c.by_leak = exactly(c.size * 4), c.by_threshold = exactly(c.size * 4);
    run(&c);
    check_forward(&c);
    check_rates(&c);
    free((void *)c.x), free(c.spikes), free(c.mean);
    free(c.by_input), free(c.by_leak), free(c.by_threshold);
}

/* The whole sequence, or one step from a membrane that is given. */
static void run_forward(dice *d, lif_call c) {
    int64_t bytes = c.size * c.steps * (c.bf16 ? 2 : 4);
    c.x = some_values(d, &c, (c.steps - 1) * c.x_step + c.size, 1);
    c.spikes = tensor(c.size * c.steps, c.bf16);
    if (below(d, 2)) {
        float *before = exactly(c.size * 4);
        for (int64_t i = 0; i < c.size; i++) before[i] = normal(d);
        c.before = before;
        c.after = exactly(c.size * 4);
    }
    run(&c);
    check_forward(&c);
    lif_call again = c;
    again.spikes = exactly(bytes);
    again.means.threads = 1;
    run(&again);
    if (memcmp(c.spikes, again.spikes, (size_t)bytes)) fail("lif: spikes depend on the threads");
    free((void *)c.x), free(c.spikes), free((void *)c.before), free(c.after), free(again.spikes);
}

static void run_backward(dice *d, lif_call c) {
    double sums[2] = {0.0, 0.0}, again[2] = {0.0, 0.0};
    int64_t wanted = 1 + below(d, 3);
    c.x = some_values(d, &c, (c.steps - 1) * c.x_step + c.size, 0);
    c.grad = some_values(d, &c, (c.steps - 1) * c.grad_step + c.size, 0);
    if (wanted & 1) c.grad_x = tensor(c.static_x ? c.size : c.size * c.steps, c.bf16);
    if (wanted & 2) c.grad_neuron = sums;
    if (c.scale) c.grad_norm = exactly(2 * (c.norm_step ? c.steps : 1) * c.channels * 8);
    run(&c);
    check_backward(&c);
    if (wanted & 2) {
        c.grad_neuron = again;
        c.means.threads = 1;
        run(&c);
        if (memcmp(sums, again, sizeof sums)) fail("lif: sums depend on the threads");
    }
    free((void *)c.x), free((void *)c.grad), free(c.grad_x), free(c.grad_norm);
}

/* A norm of a few channels before the neurons, now and then. */
static float *some_norm(dice *d, lif_call *c) {
    static const int64_t several[] = {1, 2, 3, 7, 16, 33, 64, -1};
    if (c->static_x || below(d, 2)) return NULL;
    c->channels = one_of(d, several);
    c->norm_step = below(d, 2) ? c->channels : 0;
    int64_t all = c->channels * (c->norm_step ? c->steps : 1);
    float *made = exactly(3 * all * 4);
    for (int64_t i = 0; i < 3 * all; i++) made[i] = i < all ? 0.25f + uniform(d) : normal(d);
    c->scale = made, c->shift = made + all, c->centre = made + 2 * all;
    return made;
}

static void run_both(dice *d, lif_call c) {
    static const int64_t gaps[] = {0, 0, 1, 16, -1};
    c.leak = (float)one_of(d, (int64_t[]){0, 1, 2, 2, -1}) / 2.0f;
    if (below(d, 2)) c.leak = uniform(d);
    c.threshold = (below(d, 4) ? 1.0f : -1.0f) * (0.25f + 2.0f * uniform(d));
    c.surrogate_scale = 0.25f + 2.0f * uniform(d);
    c.surrogate_width = 0.25f + 2.0f * uniform(d);
    c.floor = below(d, 2) ? INFINITY : 0.25f * (float)(1 + below(d, 8));
    c.x_step = c.static_x ? 0 : c.size + one_of(d, gaps);
    c.grad_step = below(d, 8) ? c.size + one_of(d, gaps) : 0;
    float *norm = some_norm(d, &c);
    run_forward(d, c);
    run_rates(d, c);
    run_backward(d, c);
    free(norm);
}

void check_lif(dice *d, int instructions) {
    for (int option = 0; option < RESETS * 2 * 2 * 2 * 2 * 4; option++) {
        lif_call c = {.bf16 = option & 1, .static_x = option >> 1 & 1, .half_initial = option >> 2 & 1};
        c.threshold_height = option >> 3 & 1;
        c.surrogate = option >> 4 & 3;
        c.reset = option >> 6;
        c.size = one_of(d, sizes);
        c.steps = one_of(d, steps);
        c.means = some_means(d, instructions);
        run_both(d, c);
    }
}

/* More than one block and one thread; in whole lines, which are written past the caches. */
void check_large_lif(dice *d, int instructions) {
    for (int bf16 = 0; bf16 < 2; bf16++)
        for (int whole = 0; whole < 2; whole++) {
            lif_call c = {.bf16 = bf16, .steps = 4, .size = (1 << 18) * (1 + bf16) + (whole ? 0 : 13)};
            c.means = some_means(d, instructions);
            run_both(d, c);
        }
}
