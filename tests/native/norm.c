/* Moments of channels, what a norm makes of values, and its gradient, against plain loops in double. */
#include "check.h"

#include "../../src/native/norm.h"

#include <math.h>
#include <stdlib.h>

static const int64_t several[] = {1, 2, 3, 7, 16, 33, 64, 300, -1};
static const int64_t many[] = {2, 3, 31, 130, 700, 5000, -1};
static const int64_t planes[] = {1, 1, 2, 15, 16, 49, 2048, 2100, -1};

static void run(const norm_call *n) {
    if (leanspike_norm(n)) fail("norm: no memory");
}

static void *some(dice *d, int64_t elements, int bf16, float offset) {
    void *data = tensor(elements, bf16);
    for (int64_t i = 0; i < elements; i++) put(data, i, offset + normal(d), bf16);
    return data;
}

static void expect(const norm_call *n, const char *what, int64_t i, double found, double wanted,
                   double error) {
    if (!(fabs(found - wanted) <= error))
        fail("norm: %s %lld is %.9g, not %.9g (%lld rows of %lld by %lld, %lld steps, bf16 %d, "
             "per step %d, instructions %d)",
             what, (long long)i, found, wanted, (long long)n->rows, (long long)n->channels,
             (long long)n->inner, (long long)n->steps, n->bf16, n->per_step, n->means.instructions);
}

/* Where value i of a channel lies in a step, of rows * inner, and the channel of a place. */
static int64_t place(const norm_call *n, int64_t c, int64_t i) {
    return (i / n->inner * n->channels + c) * n->inner + i % n->inner;
}

static int64_t channel(const norm_call *n, int64_t place) { return place / n->inner % n->channels; }

static int64_t group(const norm_call *n, int64_t step) { return n->per_step ? step : 0; }

static double at(const norm_call *n, int64_t s, int64_t c, int64_t i) {
    return load(n->x, s * n->x_step + place(n, c, i), n->bf16);
}

static double mean_at(const norm_call *n, int64_t c, int64_t i) {
    return load(n->mean_x, place(n, c, i), n->bf16);
}

static void check_group(const norm_call *n, int64_t g, int64_t c) {
    int64_t first = n->per_step ? g : 0, end = n->per_step ? g + 1 : n->steps, values = n->rows * n->inner;
    double mean = 0.0, variance = 0.0, shared = 0.0, of_mean = 0.0, count = (double)(values * (end - first));
    for (int64_t s = first; s < end; s++)
        for (int64_t i = 0; i < values; i++) mean += at(n, s, c, i) / count;
    for (int64_t s = first; s < end; s++)
        for (int64_t i = 0; i < values; i++) variance += pow(at(n, s, c, i) - mean, 2.0) / count;
    expect(n, "the mean of", c, n->moments[2 * g * n->channels + c], mean, 1e-5);
    expect(n, "the variance of", c, n->moments[(2 * g + 1) * n->channels + c], variance,
           5e-5 * variance + 1e-7);
    if (!n->shared) return;
    for (int64_t i = 0; i < values; i++) of_mean += mean_at(n, c, i) / count;
    for (int64_t i = 0; i < values; i++)
        shared += (at(n, g, c, i) - mean) * (mean_at(n, c, i) - of_mean) / count;
    expect(n, "what the mean shares with", c, n->shared[g * n->channels + c], shared, 5e-5 * variance + 1e-6);
}

static void check_mean_of_steps(const norm_call *n, int64_t c) {
    double mean = 0.0, variance = 0.0, values = (double)(n->rows * n->inner);
    for (int64_t i = 0; i < n->rows * n->inner; i++) {
        double of_row = 0.0;
        for (int64_t s = 0; s < n->steps; s++) of_row += at(n, s, c, i) / (double)n->steps;
        double error = fabs(of_row) * (n->bf16 ? 1.0 / 128.0 : 1e-6) + 1e-6;
        expect(n, "the mean step of", c, mean_at(n, c, i), of_row, error);
        mean += mean_at(n, c, i) / values;
    }
    for (int64_t i = 0; i < n->rows * n->inner; i++) variance += pow(mean_at(n, c, i) - mean, 2.0) / values;
    expect(n, "its variance of", c, n->mean_square[c], variance, 1e-4 * variance + 1e-6);
}

static void check_moments(dice *d, norm_call n) {
    int64_t groups = n.per_step ? n.steps : 1, bytes = groups * 2 * n.channels * 8;
    n.moments = exactly(bytes);
    if (below(d, 2)) {
        n.mean_x = tensor(n.rows * n.channels * n.inner, n.bf16), n.mean_square = exactly(n.channels * 8);
        if (n.per_step) n.shared = exactly(n.steps * n.channels * 8);
    }
    run(&n);
    for (int64_t c = 0; c < n.channels; c++) {
        for (int64_t g = 0; g < groups; g++) check_group(&n, g, c);
        if (n.mean_x) check_mean_of_steps(&n, c);
    }
    norm_call again = n;
    again.moments = exactly(bytes);
    again.means.threads = 1;
    run(&again);
    if (memcmp(n.moments, again.moments, (size_t)bytes)) fail("norm: moments depend on the threads");
    free(n.moments), free(again.moments), free(n.mean_x), free(n.mean_square), free(n.shared);
}

static void check_normalised(dice *d, norm_call n) {
    int64_t groups = n.per_step ? n.steps : 1, step = n.rows * n.channels * n.inner;
    float *made = some(d, 2 * groups * n.channels, 0, 0.0f);
    n.scale = made, n.shift = made + groups * n.channels;
    n.y = tensor(n.steps * step, n.bf16);
    if (below(d, 2)) n.mean_y = tensor(step, n.bf16);
    run(&n);
    for (int64_t i = 0; i < step; i++) {
        double mean = 0.0, size = 0.0;
        for (int64_t s = 0; s < n.steps; s++) {
            int64_t k = group(&n, s) * n.channels + channel(&n, i);
            double x = load(n.x, s * n.x_step + i, n.bf16), wanted = n.scale[k] * x + n.shift[k];
            double largest = fabs(n.scale[k] * x) + fabs((double)n.shift[k]);
            expect(&n, "what is made of", i, load(n.y, s * step + i, n.bf16), wanted,
                   (n.bf16 ? fabs(wanted) / 128.0 : 0.0) + 1e-6 * largest);
            mean += wanted / (double)n.steps, size += largest;
        }
        if (n.mean_y)
            expect(&n, "its mean of", i, load(n.mean_y, i, n.bf16), mean,
                   (n.bf16 ? fabs(mean) / 128.0 : 0.0) + 1e-6 * size);
    }
    free(made), free(n.y), free(n.mean_y);
}

static void check_sums(dice *d, norm_call n) {
    int64_t groups = n.per_step ? n.steps : 1, step = n.rows * n.channels * n.inner;
    float *centre = some(d, groups * n.channels, 0, 0.0f);
    void *grad = some(d, n.steps * step, n.bf16, 0.0f);
    n.centre = centre, n.grad = grad, n.grad_step = step, n.sums = exactly(groups * 2 * n.channels * 8);
    run(&n);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t c = 0; c < n.channels; c++) {
            double all = 0.0, products = 0.0, size = 1e-6, larger = 1e-6;
            for (int64_t s = n.per_step ? g : 0; s < (n.per_step ? g + 1 : n.steps); s++)
                for (int64_t i = 0; i < n.rows * n.inner; i++) {
                    double value = load(grad, s * step + place(&n, c, i), n.bf16);
                    double product = value * (at(&n, s, c, i) - centre[g * n.channels + c]);
                    all += value, products += product, size += fabs(value), larger += fabs(product);
                }
            expect(&n, "the sum of", c, n.sums[2 * g * n.channels + c], all, 1e-5 * size);
            expect(&n, "the products of", c, n.sums[(2 * g + 1) * n.channels + c], products, 1e-5 * larger);
        }
    free(centre), free(grad), free(n.sums);
}

static void check_gradient(dice *d, norm_call n) {
    int64_t groups = n.per_step ? n.steps : 1, step = n.rows * n.channels * n.inner;
    float *made = some(d, 4 * groups * n.channels, 0, 0.0f);
    n.of_grad = made, n.of_x = made + groups * n.channels;
    n.centre = n.of_x + groups * n.channels, n.constant = n.centre + groups * n.channels;
    n.grad_step = step;
    void *grad = some(d, n.steps * step, n.bf16, 0.0f), *kept = tensor(n.steps * step, n.bf16);
    memcpy(kept, grad, (size_t)(n.steps * step * (n.bf16 ? 2 : 4)));
    n.grad = n.grad_x = grad;
    run(&n);
    for (int64_t i = 0; i < n.steps * step; i++) {
        int64_t s = i / step, k = group(&n, s) * n.channels + channel(&n, i % step);
        double g = load(kept, i, n.bf16), x = load(n.x, s * n.x_step + i % step, n.bf16) - n.centre[k];
        double wanted = n.of_grad[k] * g + n.of_x[k] * x + n.constant[k];
        double size = fabs(n.of_grad[k] * g) + fabs(n.of_x[k] * x) + fabs((double)n.constant[k]);
        expect(&n, "the gradient of", i, load(grad, i, n.bf16), wanted,
               (n.bf16 ? fabs(wanted) / 128.0 : 0.0) + 1e-6 * size);
    }
    free(made), free(grad), free(kept);
}

void check_norm(dice *d, int instructions) {
    norm_call n = {.channels = one_of(d, several), .rows = one_of(d, many), .steps = 1 + below(d, 4)};
    n.inner = one_of(d, planes);
    while (n.channels * n.rows * n.inner > 100000 && n.rows > 2) n.rows /= 2;
    while (n.channels * n.rows * n.inner > 100000) n.channels = parts(n.channels, 2);
    n.bf16 = (int32_t)below(d, 2), n.per_step = (int32_t)below(d, 2);
    n.means = some_means(d, instructions);
    n.x_step = n.rows * n.channels * n.inner + below(d, 3);
    float offset = below(d, 2) ? 0.0f : 20.0f;
    void *x = some(d, (n.steps - 1) * n.x_step + n.rows * n.channels * n.inner, n.bf16, offset);
    n.x = x;
    check_moments(d, n);
    check_normalised(d, n);
    check_sums(d, n);
    check_gradient(d, n);
    free(x);
}
