/* Max pools at all steps, their mean and the shares of their inputs, against plain loops. */
#include "check.h"

#include "../../src/native/pool.h"

#include <math.h>
#include <stdlib.h>

static const int64_t channels_of[] = {1, 2, 3, 8, 16, 33, 64, -1};

static void expect(const pool_call *p, const char *what, int64_t i, double found, double wanted, double error) {
    if (!(fabs(found - wanted) <= error))
        fail("pool: %s %lld is %.9g, not %.9g (%lld channels, %lld steps, bf16 %d, instructions %d)", what,
             (long long)i, found, wanted, (long long)p->channels, (long long)p->steps, p->bf16,
             p->means.instructions);
}

static pool_axis some_axis(dice *d) {
    pool_axis a = {.kernel = 1 + below(d, 3), .stride = 1 + below(d, 3), .output = 1 + below(d, 5)};
    a.input = (a.output - 1) * a.stride + a.kernel + below(d, a.stride);
    return a;
}

/* Where a place of a window lies in a step of x. */
static int64_t place(const pool_call *p, int64_t pixel, int64_t k, int64_t c) {
    int64_t image = pixel / (p->rows.output * p->columns.output);
    int64_t row = pixel / p->columns.output % p->rows.output * p->rows.stride + k / p->columns.kernel;
    int64_t column = pixel % p->columns.output * p->columns.stride + k % p->columns.kernel;
    return ((image * p->rows.input + row) * p->columns.input + column) * p->channels + c;
}

static double at(const pool_call *p, int64_t s, int64_t place) { return load(p->x, s * p->x_step + place, p->bf16); }

static void check_window(const pool_call *p, int64_t pixel, int64_t c, int64_t step) {
    int64_t taps = p->rows.kernel * p->columns.kernel;
    double mean = 0.0, wanted[9] = {0.0};
    for (int64_t s = 0; s < p->steps; s++) {
        int64_t best = 0;
        for (int64_t k = 1; k < taps; k++)
            if (at(p, s, place(p, pixel, k, c)) > at(p, s, place(p, pixel, best, c))) best = k;
        double largest = at(p, s, place(p, pixel, best, c));
        expect(p, "the largest", pixel, load(p->y, s * step + pixel * p->channels + c, p->bf16), largest, 0.0);
        wanted[best] += p->shares[s], mean += largest / (double)p->steps;
    }
    expect(p, "the mean", pixel, load(p->mean_y, pixel * p->channels + c, p->bf16), mean,
           fabs(mean) * (p->bf16 ? 1.0 / 128.0 : 1e-6) + 1e-6);
    for (int64_t k = 0; k < taps; k++)
        expect(p, "the share", pixel, p->parts[k * step + pixel * p->channels + c], wanted[k], 1e-5);
}

void check_pool(dice *d, int instructions) {
    pool_call p = {.images = 1 + below(d, 3), .channels = one_of(d, channels_of), .steps = 1 + below(d, 5)};
    p.rows = some_axis(d), p.columns = some_axis(d);
    p.bf16 = (int32_t)below(d, 2), p.means = some_means(d, instructions);
    p.x_step = p.images * p.rows.input * p.columns.input * p.channels;
    int64_t step = p.images * p.rows.output * p.columns.output * p.channels, elements = p.steps * p.x_step;
    int spikes = (int)below(d, 2);
    void *x = tensor(elements, p.bf16);
    for (int64_t i = 0; i < elements; i++) put(x, i, spikes ? (float)below(d, 2) : normal(d), p.bf16);
    float *shares = tensor(p.steps, 0);
    for (int64_t s = 0; s < p.steps; s++) shares[s] = 0.125f + uniform(d);
    p.x = x, p.shares = shares, p.y = tensor(p.steps * step, p.bf16), p.mean_y = tensor(step, p.bf16);
    p.parts = tensor(p.rows.kernel * p.columns.kernel * step, 0);
    if (leanspike_pool(&p)) fail("pool: a window without a NaN is said to have one");
    for (int64_t pixel = 0; pixel < step / p.channels; pixel++)
        for (int64_t c = 0; c < p.channels; c++) check_window(&p, pixel, c, step);
    int64_t in_window = place(&p, below(d, step / p.channels), 0, below(d, p.channels));
    put(x, below(d, p.steps) * p.x_step + in_window, NAN, p.bf16);
    if (leanspike_pool(&p) != 1) fail("pool: a window with a NaN is said to have none");
    free(x), free(shares), free(p.y), free(p.mean_y), free(p.parts);
}
