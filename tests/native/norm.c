/* Moments of channels and the gradient of a norm, against plain loops in double. */
#include "check.h"

#include "../../src/native/norm.h"

#include <math.h>
#include <stdlib.h>

static const int64_t several[] = {1, 2, 3, 7, 16, 33, 64, 300, -1};
static const int64_t many[] = {2, 3, 31, 130, 700, 5000, -1};

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
        fail("norm: %s %lld is %.9g, not %.9g (%lld rows of %lld, %lld steps, bf16 %d, per step %d, "
             "instructions %d)",
             what, (long long)i, found, wanted, (long long)n->rows, (long long)n->channels,
             (long long)n->steps, n->bf16, n->per_step, n->means.instructions);
}

static double at(const norm_call *n, int64_t s, int64_t row, int64_t c) {
    return load(n->x, s * n->x_step + row * n->channels + c, n->bf16);
}

static void check_group(const norm_call *n, int64_t g, int64_t c) {
    int64_t first = n->per_step ? g : 0, end = n->per_step ? g + 1 : n->steps;
    double mean = 0.0, variance = 0.0, count = (double)(n->rows * (end - first));
    for (int64_t s = first; s < end; s++)
        for (int64_t r = 0; r < n->rows; r++) mean += at(n, s, r, c) / count;
    for (int64_t s = first; s < end; s++)
        for (int64_t r = 0; r < n->rows; r++) variance += pow(at(n, s, r, c) - mean, 2.0) / count;
    expect(n, "the mean of", c, n->moments[2 * g * n->channels + c], mean, 1e-5);
    expect(n, "the variance of", c, n->moments[(2 * g + 1) * n->channels + c], variance,
           5e-5 * variance + 1e-7);
}

static void check_mean_of_steps(const norm_call *n, int64_t c, double offset) {
    double mean = 0.0, square = 0.0, rows = (double)n->rows;
    for (int64_t r = 0; r < n->rows; r++) {
        double of_row = 0.0;
        for (int64_t s = 0; s < n->steps; s++) of_row += at(n, s, r, c) / (double)n->steps;
        mean += (of_row - offset) / rows, square += (of_row - offset) * (of_row - offset) / rows;
        double error = fabs(of_row) * (n->bf16 ? 1.0 / 128.0 : 1e-6) + 1e-6;
        expect(n, "the mean step of", c, load(n->mean_x, r * n->channels + c, n->bf16), of_row, error);
    }
    double variance = square - mean * mean;
    expect(n, "its variance of", c, n->mean_square[c], variance, 1e-4 * variance + 1e-6);
}

static void check_moments(dice *d, norm_call n, float offset) {
    int64_t groups = n.per_step ? n.steps : 1, bytes = groups * 2 * n.channels * 8;
    n.moments = exactly(bytes);
    if (below(d, 2)) n.mean_x = tensor(n.rows * n.channels, n.bf16), n.mean_square = exactly(n.channels * 8);
    run(&n);
    for (int64_t c = 0; c < n.channels; c++) {
        for (int64_t g = 0; g < groups; g++) check_group(&n, g, c);
        if (n.mean_x) check_mean_of_steps(&n, c, (double)offset);
    }
    norm_call again = n;
    again.moments = exactly(bytes);
    again.means.threads = 1;
    run(&again);
    if (memcmp(n.moments, again.moments, (size_t)bytes)) fail("norm: moments depend on the threads");
    free(n.moments), free(again.moments), free(n.mean_x), free(n.mean_square);
}

static void check_gradient(dice *d, norm_call n) {
    int64_t groups = n.per_step ? n.steps : 1, step = n.rows * n.channels;
    float *made = some(d, 4 * groups * n.channels, 0, 0.0f);
    n.of_grad = made, n.of_x = made + groups * n.channels;
    n.centre = n.of_x + groups * n.channels, n.constant = n.centre + groups * n.channels;
    n.grad_step = step;
    void *grad = some(d, n.steps * step, n.bf16, 0.0f), *kept = tensor(n.steps * step, n.bf16);
    memcpy(kept, grad, (size_t)(n.steps * step * (n.bf16 ? 2 : 4)));
    n.grad = n.grad_x = grad;
    run(&n);
    for (int64_t i = 0; i < n.steps * step; i++) {
        int64_t s = i / step, c = i % n.channels, k = n.per_step ? s * n.channels + c : c;
        double g = load(kept, i, n.bf16), x = at(&n, s, i % step / n.channels, c) - n.centre[k];
        double wanted = n.of_grad[k] * g + n.of_x[k] * x + n.constant[k];
        double size = fabs(n.of_grad[k] * g) + fabs(n.of_x[k] * x) + fabs((double)n.constant[k]);
        expect(&n, "the gradient of", i, load(grad, i, n.bf16), wanted,
               (n.bf16 ? fabs(wanted) / 128.0 : 0.0) + 1e-6 * size);
    }
    free(made), free(grad), free(kept);
}

void check_norm(dice *d, int instructions) {
    norm_call n = {.channels = one_of(d, several), .rows = one_of(d, many), .steps = 1 + below(d, 4)};
    while (n.channels * n.rows > 100000) n.rows /= 2;
    n.bf16 = (int32_t)below(d, 2), n.per_step = (int32_t)below(d, 2);
    n.means = some_means(d, instructions);
    n.x_step = n.rows * n.channels + below(d, 3);
    float offset = below(d, 2) ? 0.0f : 20.0f;
    void *x = some(d, (n.steps - 1) * n.x_step + n.rows * n.channels, n.bf16, offset);
    n.x = x;
    check_moments(d, n, offset);
    check_gradient(d, n);
    free(x);
}
