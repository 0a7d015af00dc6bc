/* Convolutions against seven plain loops in double. */
#include "check.h"

#include "../../src/native/winograd.h"

#include <math.h>
#include <stdlib.h>

static const int64_t channels[] = {1, 3, 16, 33, 64, 65, 130, -1};
static const int64_t outputs[] = {1, 5, 63, 64, 70, -1};

/* The output pixel, tap by tap: which element of x, channel 0, meets which tap; -1 where none does. */
static int64_t met(const convolution_call *c, int64_t image, int64_t y, int64_t x, int64_t ky,
                   int64_t kx) {
    int64_t row = y * c->rows.stride + ky - c->rows.padding;
    int64_t column = x * c->columns.stride + kx - c->columns.padding;
    if (row < 0 || row >= c->rows.input || column < 0 || column >= c->columns.input) return -1;
    return ((image * c->rows.input + row) * c->columns.input + column) * c->channels;
}

static int64_t pixel(const convolution_call *c, int64_t image, int64_t y, int64_t x) {
    return ((image * c->rows.output + y) * c->columns.output + x) * c->outputs;
}

static int64_t place(const convolution_call *c, int64_t o, int64_t i, int64_t ky, int64_t kx) {
    return o * c->strides[0] + i * c->strides[1] + ky * c->strides[2] + kx * c->strides[3];
}

static void expect(const convolution_call *c, const char *what, double found, double wanted,
                   double size, int bf16) {
    if (fabs(found - wanted) <= (bf16 ? fabs(wanted) / 128.0 : 0.0) + 1e-5 * size + 1e-30) return;
    fail("convolution: %s is %.9g, not %.9g (%lld images, %lld channels, %lld outputs, input %lld x "
         "%lld, kernel %lld x %lld, stride %lld x %lld, padding %lld x %lld, bf16 %d, instructions %d)",
         what, found, wanted, (long long)c->images, (long long)c->channels, (long long)c->outputs,
         (long long)c->rows.input, (long long)c->columns.input, (long long)c->rows.kernel,
         (long long)c->columns.kernel, (long long)c->rows.stride, (long long)c->columns.stride,
         (long long)c->rows.padding, (long long)c->columns.padding, c->bf16, c->means.instructions);
}

static void check_output(const convolution_call *c, int64_t image, int64_t y, int64_t x, int64_t o,
                         double least_size) {
    double sum = c->bias ? c->bias[o] : 0.0, size = fabs(sum);
    for (int64_t ky = 0; ky < c->rows.kernel; ky++)
        for (int64_t kx = 0; kx < c->columns.kernel; kx++) {
            int64_t from = met(c, image, y, x, ky, kx);
            for (int64_t i = 0; from >= 0 && i < c->channels; i++) {
                double term = (double)load(c->x, from + i, c->bf16) * c->weight[place(c, o, i, ky, kx)];
                sum += term, size += fabs(term);
            }
        }
    expect(c, "an output", load(c->y, pixel(c, image, y, x) + o, c->bf16), sum, fmax(size, least_size),
           c->bf16);
}

static void check_outputs(const convolution_call *c, double least_size) {
    for (int64_t image = 0; image < c->images; image++)
        for (int64_t y = 0; y < c->rows.output; y++)
            for (int64_t x = 0; x < c->columns.output; x++)
                for (int64_t o = 0; o < c->outputs; o++) check_output(c, image, y, x, o, least_size);
}

static void check_grad_weight(const convolution_call *c, int64_t o, int64_t i, int64_t ky, int64_t kx,
                              double least_size) {
    double sum = 0.0, size = 0.0;
    for (int64_t image = 0; image < c->images; image++)
        for (int64_t y = 0; y < c->rows.output; y++)
            for (int64_t x = 0; x < c->columns.output; x++) {
                int64_t from = met(c, image, y, x, ky, kx);
                if (from < 0) continue;
                double term = (double)load(c->x, from + i, c->bf16) *
                              load(c->grad, pixel(c, image, y, x) + o, c->bf16);
                sum += term, size += fabs(term);
            }
    expect(c, "dL/dweight", c->grad_weight[place(c, o, i, ky, kx)], sum, fmax(size, least_size), 0);
}

static void check_grad_weights(const convolution_call *c, double least_size) {
    for (int64_t o = 0; o < c->outputs; o++)
        for (int64_t i = 0; i < c->channels; i++)
            for (int64_t ky = 0; ky < c->rows.kernel; ky++)
                for (int64_t kx = 0; kx < c->columns.kernel; kx++)
                    check_grad_weight(c, o, i, ky, kx, least_size);
}

/* Mostly zeros, of either sign; all of them at a density of 0. */
static void *some_values(dice *d, int64_t elements, float density, int bf16) {
    void *data = tensor(elements, bf16);
    for (int64_t i = 0; i < elements; i++)
        put(data, i, uniform(d) < density ? normal(d) : below(d, 2) ? 0.0f : -0.0f, bf16);
    return data;
}

static convolution_axis some_axis(dice *d) {
    convolution_axis a = {.kernel = 1 + below(d, 4), .stride = 1 + below(d, 3)};
    a.padding = below(d, a.kernel + 1);
    a.input = 1 + below(d, 9);
    if (a.input + 2 * a.padding < a.kernel) a.input = a.kernel;
    a.output = (a.input + 2 * a.padding - a.kernel) / a.stride + 1;
    return a;
}

/* The weights' axes lie in any order, without gaps. */
static void lay_out(dice *d, convolution_call *c) {
    int64_t sizes[] = {c->outputs, c->channels, c->rows.kernel, c->columns.kernel}, stride = 1;
    int order[] = {0, 1, 2, 3};
    for (int k = 3; k > 0; k--) {
        int other = (int)below(d, k + 1), kept = order[k];
        order[k] = order[other], order[other] = kept;
    }
    for (int k = 0; k < 4; k++) c->strides[order[k]] = stride, stride *= sizes[order[k]];
}

static void run(const convolution_call *c) {
    if (leanspike_convolution(c)) fail("convolution: no memory");
}

static void run_forward(dice *d, convolution_call c, int64_t weights, int64_t results) {
    int64_t bytes = results * (c.bf16 ? 2 : 4);
    float *weight = some_values(d, weights, 1.0f, 0), *bias = some_values(d, c.outputs, 1.0f, 0);
    c.weight = weight;
    c.bias = below(d, 2) ? bias : NULL;
    c.y = exactly(bytes);
    run(&c);
    check_outputs(&c, 0.0);
    convolution_call again = c;
    again.y = exactly(bytes);
    again.means.threads = 1;
    float *packed = exactly(leanspike_convolution_room(&c) * 4);
    if (leanspike_convolution_pack(&c, packed)) fail("convolution: no memory to lay weights out");
    again.packed = packed;
    run(&again);
    if (bytes && memcmp(c.y, again.y, (size_t)bytes))
        fail("convolution: outputs depend on the threads, or on who lays weights out");
    free(packed), free(weight), free(bias), free(c.y), free(again.y);
}

static void run_backward(dice *d, convolution_call c, int64_t weights, int64_t results) {
    c.grad = some_values(d, results, 1.0f, c.bf16);
    c.grad_weight = exactly(weights * 4);
    run(&c);
    check_grad_weights(&c, 0.0);
    convolution_call again = c;
    again.grad_weight = exactly(weights * 4);
    again.means.threads = 1;
    run(&again);
    if (memcmp(c.grad_weight, again.grad_weight, (size_t)weights * 4))
        fail("convolution: dL/dweight depends on the threads");
    free((void *)c.grad), free(c.grad_weight), free(again.grad_weight);
}

void check_convolution(dice *d, int instructions) {
    convolution_call c = {.images = one_of(d, (int64_t[]){0, 1, 1, 2, 3, -1}), .bf16 = (int)below(d, 2)};
    c.channels = one_of(d, channels);
    c.outputs = one_of(d, outputs);
    c.rows = some_axis(d), c.columns = some_axis(d);
    c.means = some_means(d, instructions);
    lay_out(d, &c);
    int64_t weights = c.outputs * c.channels * c.rows.kernel * c.columns.kernel;
    int64_t pixels = c.images * c.rows.output * c.columns.output;
    float density = (float)one_of(d, (int64_t[]){0, 1, 10, 50, 100, -1}) / 100.0f;
    void *x = some_values(d, c.images * c.rows.input * c.columns.input * c.channels, density, c.bf16);
    c.x = x;
    run_forward(d, c, weights, pixels * c.outputs);
    if (c.rows.stride == 1 && c.columns.stride == 1) run_backward(d, c, weights, pixels * c.outputs);
    free(x);
}

/* Runs once more, in one thread, into other memory: no bit may differ. */
static void run_winograd(const convolution_call *c, void *found, int64_t bytes, int64_t from_start) {
    if (leanspike_winograd(c)) fail("winograd: no memory");
    convolution_call again = *c;
    char *other = exactly(bytes);
    if (c->weight) again.y = other;
    else again.grad_weight = (float *)other + from_start;
    again.means.threads = 1;
    if (leanspike_winograd(&again)) fail("winograd: no memory");
    if (bytes && memcmp(found, other, (size_t)bytes)) fail("winograd: bits depend on the threads");
    free(other);
}

static convolution_axis some_axis_of_three(dice *d) {
    convolution_axis a = {.kernel = 3, .stride = 1, .padding = below(d, 3)};
    a.input = (a.padding == 0 ? 3 : 1) + below(d, 12);
    a.output = a.input + 2 * a.padding - 2;
    return a;
}

/* Strides of the taps may be negative, with pointers to the last tap. Errors spread over a tile, so they are held
 * against the number of terms of a sum. */
void check_winograd(dice *d, int instructions) {
    static const int64_t numbers[] = {8, 16, 24, 40, -1};
    convolution_call c = {.images = one_of(d, (int64_t[]){0, 1, 2, 3, -1})};
    c.channels = one_of(d, numbers), c.outputs = one_of(d, numbers);
    c.rows = some_axis_of_three(d), c.columns = some_axis_of_three(d);
    c.means = some_means(d, instructions);
    lay_out(d, &c);
    int64_t weights = c.outputs * c.channels * 9, last = 0;
    int64_t results = c.images * c.rows.output * c.columns.output * c.outputs;
    if (below(d, 2)) {
        last = 2 * (c.strides[2] + c.strides[3]);
        c.strides[2] = -c.strides[2], c.strides[3] = -c.strides[3];
    }
    float *x = some_values(d, c.images * c.rows.input * c.columns.input * c.channels, 1.0f, 0);
    float *weight = some_values(d, weights, 1.0f, 0), *bias = some_values(d, c.outputs, 1.0f, 0);
    float *y = exactly(results * 4), *grad = some_values(d, results, 1.0f, 0), *found = exactly(weights * 4);
    c.x = x;
    convolution_call forward = c, backward = c;
    forward.weight = weight + last, forward.y = y, forward.bias = below(d, 2) ? bias : NULL;
    run_winograd(&forward, y, results * 4, 0);
    check_outputs(&forward, (double)(9 * c.channels));
    backward.grad = grad, backward.grad_weight = found + last;
    run_winograd(&backward, found, weights * 4, last);
    check_grad_weights(&backward, (double)(results / c.outputs));
    free(x), free(weight), free(bias), free(y), free(grad), free(found);
}

/* Each run of 64 elements, however long the tensor is, has as many that are not 0. */
static void check_equal_runs(dice *d, int64_t runs, int bf16) {
    int64_t events = below(d, 65);
    void *x = tensor(runs * 64, bf16);
    for (int64_t i = 0; i < runs * 64; i++)
        put(x, i, (i * 29) % 64 < events ? -1.0f : i % 2 ? 0.0f : -0.0f, bf16);
    double found = leanspike_density(x, runs * 64, bf16);
    double wanted = runs ? (double)events / 64.0 : 0.0;
    if (found != wanted) fail("density: %g, not %g (bf16 %d)", found, wanted, bf16);
    free(x);
}

/* Every other stripe is not 0, whatever its width: no period is missed. */
static void check_stripes(dice *d, int bf16) {
    int64_t width = (int64_t)64 << below(d, 6), runs = 1024 * (1 + below(d, 40)), size = runs * 64;
    void *x = tensor(size, bf16);
    for (int64_t i = 0; i < size; i++) put(x, i, i / width % 2 ? 1.0f : 0.0f, bf16);
    double found = leanspike_density(x, size, bf16);
    if (fabs(found - 0.5) > 0.08)
        fail("density: %g of stripes of %lld elements", found, (long long)width);
    free(x);
}

void check_density(dice *d) {
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (int64_t runs = 0; runs < 70; runs++, d->calls++) check_equal_runs(d, runs, bf16);
        check_stripes(d, bf16);
    }
}
