/* Neurons against the equation, one at a time: spikes and membranes to the bit, gradients to rounding. */
#include "check.h"

#include "../../src/native/lif.h"

#include <math.h>
#include <stdlib.h>

enum { RESETS = RESET_UNDECAYED + 1 };

static const int64_t sizes[] = {1, 2, 15, 31, 63, 64, 65, 127, 257, 700, 2051, 8197, -1};
static const int64_t steps[] = {1, 1, 2, 3, 5, -1};

/* A neuron through all steps: its membranes before the reset, and whether it fired. */
typedef struct {
    float first, last; /* membranes before the first and after the last step */
    float *before;
    unsigned char *fired;
} course;

static void follow(const lif_call *c, int64_t i, course *n) {
    float u = c->before ? c->before[i] : c->half_initial ? c->threshold / 2.0f : 0.0f;
    n->first = u;
    for (int64_t s = 0; s < c->steps; s++) {
        float m = c->leak * u + load(c->x, s * c->x_step + i, c->bf16);
        if (c->reset == RESET_UNDECAYED && u / c->threshold - 1.0f > 0.0f) m -= c->threshold;
        int fired = m / c->threshold - 1.0f > 0.0f;
        n->before[s] = m;
        n->fired[s] = (unsigned char)fired;
        if (c->reset == RESET_SOFT) u = m - c->threshold * (float)fired;
        else u = c->reset == RESET_HARD && fired ? 0.0f : m;
    }
    n->last = u;
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
        double m = n->before[s], fired = n->fired[s], u = m;
        double g = load(c->grad, s * c->grad_step + i, c->bf16);
        double to_z = g * height * derivative(c, n->before[s]);
        if (c->reset == RESET_SOFT) u = m - v * fired;
        if (c->reset == RESET_HARD) u = fired ? 0.0 : m;
        add(&sums[0], later * u);
        add(&sums[1], -to_z * m / (v * v));
        if (c->reset == RESET_SOFT) add(&sums[1], -fired * c->leak * later);
        if (c->reset == RESET_UNDECAYED) add(&sums[1], -fired * later);
        if (c->threshold_height) add(&sums[1], g * fired);
        later = to_z / v + (c->reset == RESET_HARD && fired ? 0.0 : c->leak * later);
        grad_x[s] = later;
    }
    add(&sums[0], later * n->first);
    if (c->half_initial) add(&sums[1], later * c->leak / 2.0);
}

static void describe_and_fail(const lif_call *c, const char *what, int64_t i, double found, double wanted) {
    fail("lif: %s of neuron %lld is %.9g, not %.9g (size %lld, %lld steps, reset %d, half %d, height %d, "
         "surrogate %d, bf16 %d, static %d, leak %g, threshold %g, instructions %d)",
         what, (long long)i, found, wanted, (long long)c->size, (long long)c->steps, c->reset,
         c->half_initial, c->threshold_height, c->surrogate, c->bf16, c->static_x, (double)c->leak,
         (double)c->threshold, c->means.instructions);
}

static void expect_same(const lif_call *c, const char *what, int64_t i, float found, float wanted) {
    if (!(found == wanted || (isnan(found) && isnan(wanted))))
        describe_and_fail(c, what, i, (double)found, (double)wanted);
}

static void check_forward(const lif_call *c) {
    course n = {.before = exactly(c->steps * 4), .fired = exactly(c->steps)};
    float high = c->threshold_height ? c->threshold : 1.0f;
    if (c->bf16) high = from_bfloat16(to_bfloat16(high));
    for (int64_t i = 0; i < c->size; i++) {
        follow(c, i, &n);
        for (int64_t s = 0; s < c->steps; s++)
            expect_same(c, "a spike", i, load(c->spikes, s * c->size + i, c->bf16),
                        n.fired[s] ? high : 0.0f);
        if (c->after) expect_same(c, "the membrane", i, c->after[i], n.last);
    }
    free(n.before), free(n.fired);
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

static void check_backward(const lif_call *c) {
    course n = {.before = exactly(c->steps * 4), .fired = exactly(c->steps)};
    double *grad_x = exactly(c->steps * 8), slope = c->surrogate_scale + 1.0 / c->surrogate_width;
    double largest = 4.0 * slope * (double)c->steps * fmax(1.0, 1.0 / fabs((double)c->threshold));
    sum sums[2] = {{0.0, 0.0}, {0.0, 0.0}};
    for (int64_t i = 0; i < c->size; i++) {
        follow(c, i, &n);
        follow_back(c, i, &n, grad_x, sums);
        if (c->grad_x) check_grad_x(c, i, grad_x, largest);
    }
    for (int k = 0; c->grad_neuron && k < 2; k++)
        if (!(fabs(c->grad_neuron[k] - sums[k].value) <= 5e-5 * sums[k].size + 1e-6))
            describe_and_fail(c, k ? "dL/dthreshold" : "dL/dleak", -1, c->grad_neuron[k], sums[k].value);
    free(n.before), free(n.fired), free(grad_x);
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
    run(&c);
    check_backward(&c);
    if (wanted & 2) {
        c.grad_neuron = again;
        c.means.threads = 1;
        run(&c);
        if (memcmp(sums, again, sizeof sums)) fail("lif: sums depend on the threads");
    }
    free((void *)c.x), free((void *)c.grad), free(c.grad_x);
}

static void run_both(dice *d, lif_call c) {
    static const int64_t gaps[] = {0, 0, 1, 16, -1};
    c.leak = (float)one_of(d, (int64_t[]){0, 1, 2, 2, -1}) / 2.0f;
    if (below(d, 2)) c.leak = uniform(d);
    c.threshold = (below(d, 4) ? 1.0f : -1.0f) * (0.25f + 2.0f * uniform(d));
    c.surrogate_scale = 0.25f + 2.0f * uniform(d);
    c.surrogate_width = 0.25f + 2.0f * uniform(d);
    c.x_step = c.static_x ? 0 : c.size + one_of(d, gaps);
    c.grad_step = below(d, 8) ? c.size + one_of(d, gaps) : 0;
    run_forward(d, c);
    run_backward(d, c);
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
