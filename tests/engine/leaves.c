/* The leaves of the engine against plain loops, at sizes and values at random: bits and membranes the same for
 * each instruction set of this processor. To be run under the sanitizers (make sanitize).
 *
 * leaves [SEED [ROUNDS]]: with the seed that a failure named, the same checks again. */
#include "../../src/engine/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static int32_t below(int32_t limit) {
    uint64_t z = state += 0x9e3779b97f4a7c15u; /* splitmix64, of public domain */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (int32_t)((z ^ (z >> 31)) % (uint64_t)limit);
}

static int32_t within(int32_t low, int32_t high) { return low + below(high - low + 1); }
static float uniform(float low, float high) { return low + (high - low) * (float)below(1 << 24) / (1 << 24); }

/* No more than was asked for, so that the sanitizers see what is touched beyond. */
static void *room(int64_t count, size_t size) {
    size_t bytes = ((size_t)count * size + 63) / 64 * 64;
    void *found = aligned_alloc(64, bytes ? bytes : 64);
    if (!found) exit(fprintf(stderr, "no memory\n"));
    memset(found, 0xee, bytes);
    return found;
}

/* A layer: geometry, weights as in a file, everything of a call, and the results that a plain loop finds. */
typedef struct {
    ls_events call;
    ls_rows rows;
    int32_t out_height;
    float *image, *before; /* for `dense`; currents before the call */
    float *last; /* membranes before the call */
    float *current, *membrane;
    uint64_t *out;
} layer;

static int64_t cells(const layer *l) {
    return (int64_t)l->out_height * l->call.out_width * l->call.neurons.blocks * LS_BLOCK;
}

static int32_t out_size(int32_t size, int32_t kernel, int32_t stride, int32_t padding) {
    return (size + 2 * padding - kernel) / stride + 1;
}

static void some_geometry(layer *l) {
    ls_events *e = &l->call;
    int32_t linear = below(6) == 0, most = below(8) ? 100 : 300;
    e->channels = within(1, linear ? 3000 : most);
    e->outputs = within(1, below(3) ? 140 : 32);
    for (int32_t axis = 0; axis < 2; axis++) {
        int32_t size = linear ? 1 : within(1, 9);
        e->kernel[axis] = linear ? 1 : within(1, 5);
        e->padding[axis] = linear ? 0 : below(e->kernel[axis]);
        while (size + 2 * e->padding[axis] < e->kernel[axis]) size++;
        e->stride[axis] = linear ? 1 : within(1, 3);
        if (axis == 0) e->height = size, l->out_height = out_size(size, e->kernel[0], e->stride[0], e->padding[0]);
        else e->width = size, e->out_width = out_size(size, e->kernel[1], e->stride[1], e->padding[1]);
    }
    e->top = below(3) ? 0 : below(l->out_height);
    e->bottom = below(3) ? l->out_height : within(e->top, l->out_height);
    e->neurons.steps = within(1, 4);
    e->neurons.blocks = (e->outputs + LS_BLOCK - 1) / LS_BLOCK;
    l->rows = (ls_rows){.taps = e->kernel[0] * e->kernel[1], .channels = e->channels, .outputs = e->outputs};
}

static void some_weights(layer *l) {
    int64_t count = (int64_t)l->rows.taps * l->rows.channels * l->rows.outputs;
    int32_t most = (int32_t[]){31, 63, 127, 127}[below(4)], one_sign = below(4) == 0;
    l->rows.type = l->call.type = below(3) ? (most == 31 ? LS_I6 : LS_I8) : LS_F32;
    void *weights = room(count, l->rows.type == LS_F32 ? sizeof(float) : 1);
    for (int64_t i = 0; i < count; i++)
        if (l->rows.type == LS_F32) ((float *)weights)[i] = uniform(-1, 1);
        else ((int8_t *)weights)[i] = (int8_t)(one_sign ? most : within(-most, most));
    l->rows.weights = weights;
}

static void some_spikes(layer *l) {
    ls_events *e = &l->call;
    int32_t words = (e->channels + 63) / 64, percent = (int32_t[]){0, 3, 15, 60, 100}[below(5)];
    e->bits_step = (int64_t)e->height * e->width * words + below(3);
    uint64_t *bits = room(e->neurons.steps * e->bits_step, sizeof *bits);
    memset(bits, 0, (size_t)(e->neurons.steps * e->bits_step) * sizeof *bits);
    for (int64_t i = 0; i < e->neurons.steps * e->bits_step; i++)
        for (int32_t c = 0; c < 64; c++)
            if (i % e->bits_step % words * 64 + c < e->channels && below(100) < percent) bits[i] |= (uint64_t)1 << c;
    e->bits = bits;
    l->image = room((int64_t)e->height * e->width * e->channels, sizeof(float));
    for (int64_t i = 0; i < (int64_t)e->height * e->width * e->channels; i++) l->image[i] = uniform(-1, 1);
}

/* Rows of whole blocks, `fill` in lanes without a neuron. */
static float *some_rows(const layer *l, int64_t rows, float low, float high, float fill) {
    int64_t size = (int64_t)l->call.neurons.blocks * LS_BLOCK;
    float *found = room(rows * size, sizeof *found);
    for (int64_t i = 0; i < rows * size; i++) found[i] = i % size < l->call.outputs ? uniform(low, high) : fill;
    return found;
}

static void some_neurons(layer *l) {
    ls_events *e = &l->call;
    ls_neurons *n = &e->neurons;
    int64_t pixels = (int64_t)l->out_height * e->out_width, size = cells(l) / pixels;
    n->leak_step = below(2) ? size : 0, n->threshold_step = below(2) ? size : 0;
    n->leak = some_rows(l, n->leak_step ? pixels : 1, 0, 1, 0);
    n->threshold = some_rows(l, n->threshold_step ? pixels : 1, 0.5f, 3, 1);
    n->initial = 0.5f * (float)below(2), n->begin = below(2);
    n->reset = below(3);
    n->floor = below(2) ? 0.25f * (float)(1 + below(4)) : 0;
    e->scale_step = below(2) ? size : 0, e->shift_step = below(2) ? size : 0;
    e->scale = some_rows(l, n->steps, 0, l->rows.type == LS_F32 ? 1 : 0.02f, 0);
    e->shift = below(4) ? some_rows(l, n->steps, -1, 1, 0) : NULL;
    e->fire = below(3) > 0, e->add = below(3) == 0;
    n->current_step = cells(l), n->out_step = pixels * n->blocks;
    l->before = some_rows(l, n->steps * pixels, -1, 1, 0);
    l->current = room(n->steps * cells(l), sizeof(float));
    l->membrane = room(cells(l), sizeof(float));
    l->out = room(n->steps * n->out_step, sizeof *l->out);
    l->last = some_rows(l, pixels, -1, 2, 0);
    memcpy(l->membrane, l->last, (size_t)cells(l) * sizeof(float));
}

static float weight(const layer *l, int32_t tap, int32_t c, int32_t o) {
    int64_t at = ((int64_t)tap * l->rows.channels + c) * l->rows.outputs + o;
    return l->rows.type == LS_F32 ? ((const float *)l->rows.weights)[at] : ((const int8_t *)l->rows.weights)[at];
}

/* The sum of one output; t < 0: of the image. */
static float sum_of(const layer *l, int32_t t, int32_t y, int32_t x, int32_t o) {
    const ls_events *e = &l->call;
    int32_t words = (e->channels + 63) / 64;
    float sum = 0; /* of integers below 2^24: exact */
    for (int32_t tap = 0; tap < l->rows.taps; tap++) {
        int32_t iy = y * e->stride[0] - e->padding[0] + tap / e->kernel[1];
        int32_t ix = x * e->stride[1] - e->padding[1] + tap % e->kernel[1];
        if (iy < 0 || iy >= e->height || ix < 0 || ix >= e->width) continue;
        int64_t pixel = (int64_t)iy * e->width + ix;
        for (int32_t c = 0; c < e->channels; c++)
            if (t < 0) sum += l->image[pixel * e->channels + c] * weight(l, tap, c, o);
            else if (e->bits[t * e->bits_step + pixel * words + c / 64] >> c % 64 & 1) sum += weight(l, tap, c, o);
    }
    return sum;
}

static float current_of(const layer *l, int32_t t, int64_t lane, int64_t at, float sum) {
    const ls_events *e = &l->call;
    float x = e->add ? l->before[(t < 0 ? 0 : t * e->neurons.current_step) + at] : 0;
    if (e->shift) x += e->shift[(t < 0 ? 0 : t) * e->shift_step + lane];
    return x + e->scale[(t < 0 ? 0 : t) * e->scale_step + lane] * sum;
}

/* Lane k of pixel p at step t. */
static int fires(const ls_neurons *n, int64_t p, int64_t k, int32_t t, float *membrane, float x) {
    float v = n->threshold[p * n->threshold_step + k];
    if (n->begin && t == 0) *membrane = n->initial * v;
    float u = n->leak[p * n->leak_step + k] * *membrane + x;
    if (n->reset == LS_UNDECAYED && *membrane > v) u -= v;
    int fired = u / v - 1 > 0;
    if (fired && n->reset == LS_SOFT) u -= v;
    if (fired && n->reset == LS_HARD) u = 0;
    *membrane = n->floor > 0 && u < -n->floor * v ? -n->floor * v : u;
    return fired;
}

/* All of it in the order of the definition. */
static void plainly(layer *l) {
    ls_events *e = &l->call;
    const ls_neurons *n = &e->neurons;
    int64_t size = (int64_t)n->blocks * LS_BLOCK;
    memcpy(l->current, l->before, (size_t)(n->steps * cells(l)) * sizeof(float));
    memset(l->out, 0, (size_t)(n->steps * n->out_step) * sizeof *l->out);
    for (int32_t p = e->top * e->out_width; p < e->bottom * e->out_width; p++)
        for (int64_t k = 0; k < size; k++)
            for (int32_t t = 0; t < n->steps; t++) {
                int32_t is_there = k < e->outputs;
                float sum = is_there ? sum_of(l, t, p / e->out_width, p % e->out_width, (int32_t)k) : 0;
                float x = current_of(l, t, k, p * size + k, sum);
                if (!e->fire) l->current[t * n->current_step + p * size + k] = x;
                else if (fires(n, p, k, t, l->membrane + p * size + k, x))
                    l->out[t * n->out_step + p * n->blocks + k / 64] |= (uint64_t)1 << k % 64;
            }
}

static uint64_t seed, number;

static void same(const char *what, int32_t set, const void *a, const void *b, int64_t count, size_t size) {
    for (int64_t i = 0; i < count; i++) {
        if (memcmp((const char *)a + i * (int64_t)size, (const char *)b + i * (int64_t)size, size) == 0) continue;
        fprintf(stderr, "leaves %llu %llu: %s %lld of instruction set %d is wrong\n", (unsigned long long)seed,
                (unsigned long long)number, what, (long long)i, set);
        exit(1);
    }
}

/* Of lanes with a neuron; the others' are nobody's. */
static void same_lanes(const char *what, int32_t set, const layer *l, const float *a, const float *b, int64_t count) {
    int64_t size = (int64_t)l->call.neurons.blocks * LS_BLOCK;
    for (int64_t i = 0; i < count; i += size) same(what, set, a + i, b + i, l->call.outputs, sizeof *a);
}

static void check_events(layer *l, const ls_kernels *k, int32_t set) {
    ls_events e = l->call;
    const ls_neurons *n = &l->call.neurons;
    size_t scratch;
    void *packed = room((int64_t)k->pack_room(&l->rows), 1);
    k->pack(&l->rows, packed);
    e.packed = packed;
    scratch = k->events_room(&e);
    float *current = room(n->steps * cells(l), sizeof(float)), *membrane = room(cells(l), sizeof(float));
    uint64_t *out = room(n->steps * n->out_step, sizeof *out);
    memcpy(current, l->before, (size_t)(n->steps * cells(l)) * sizeof(float));
    memcpy(membrane, l->last, (size_t)cells(l) * sizeof(float));
    memset(out, 0, (size_t)(n->steps * n->out_step) * sizeof *out);
    e.neurons.current = current, e.neurons.membrane = membrane, e.neurons.out = out;
    e.scratch = room((int64_t)scratch, 1);
    k->events(&e);
    same_lanes("current", set, l, current, l->current, n->steps * cells(l));
    same("spikes", set, out, l->out, n->steps * n->out_step, sizeof *out);
    if (e.fire) same_lanes("membrane", set, l, membrane, l->membrane, cells(l));
    free(packed), free(current), free(membrane), free(out), free(e.scratch);
}

/* The same layer on the image, and neurons on the current that it makes. */
static void check_dense(layer *l, const ls_kernels *k, int32_t set) {
    const ls_events *e = &l->call;
    if (l->rows.type != LS_F32) return;
    ls_dense d = {.image = l->image, .height = e->height, .width = e->width, .channels = e->channels,
                  .outputs = e->outputs, .out_width = e->out_width, .top = e->top, .bottom = e->bottom,
                  .scale = e->scale, .shift = e->shift, .add = e->add, .blocks = e->neurons.blocks};
    memcpy(d.kernel, e->kernel, sizeof d.kernel);
    memcpy(d.stride, e->stride, sizeof d.stride);
    memcpy(d.padding, e->padding, sizeof d.padding);
    void *packed = room((int64_t)k->pack_room(&l->rows), 1);
    k->pack(&l->rows, packed);
    d.packed = packed;
    d.current = room(cells(l), sizeof(float));
    float *expected = room(cells(l), sizeof(float));
    memcpy(d.current, l->before, (size_t)cells(l) * sizeof(float));
    memcpy(expected, l->before, (size_t)cells(l) * sizeof(float));
    int64_t size = (int64_t)d.blocks * LS_BLOCK;
    for (int64_t p = d.top * d.out_width; p < d.bottom * d.out_width; p++)
        for (int64_t o = 0; o < size; o++) {
            float sum = o < d.outputs ? sum_of(l, -1, (int32_t)p / d.out_width, (int32_t)p % d.out_width, (int32_t)o) : 0;
            expected[p * size + o] = current_of(l, -1, o, p * size + o, sum);
        }
    k->dense(&d);
    same_lanes("current of the image", set, l, d.current, expected, cells(l));
    free(packed), free(d.current), free(expected);
}

static void check_neurons(layer *l, const ls_kernels *k, int32_t set) {
    ls_neurons n = l->call.neurons;
    int64_t size = (int64_t)n.blocks * LS_BLOCK, pixels = cells(l) / size;
    float *membrane = room(cells(l), sizeof(float)), *expected = room(cells(l), sizeof(float));
    uint64_t *out = room(n.steps * n.out_step, sizeof *out), *right = room(n.steps * n.out_step, sizeof *out);
    memset(right, 0xee, (size_t)(n.steps * n.out_step) * sizeof *right);
    memcpy(membrane, l->last, (size_t)cells(l) * sizeof(float));
    memcpy(expected, l->last, (size_t)cells(l) * sizeof(float));
    n.current = l->before, n.current_step = below(2) ? n.current_step : 0;
    n.membrane = membrane, n.out = out, n.first = below((int32_t)pixels), n.after = within(n.first, (int32_t)pixels);
    for (int64_t p = n.first; p < n.after; p++)
        for (int64_t i = 0; i < size; i++)
            for (int32_t t = 0; t < n.steps; t++) {
                uint64_t *word = right + t * n.out_step + p * n.blocks + i / 64, bit = (uint64_t)1 << i % 64;
                float x = n.current[t * n.current_step + p * size + i];
                if (fires(&n, p, i, t, expected + p * size + i, x)) *word |= bit;
                else *word &= ~bit;
            }
    k->neurons(&n);
    same("neurons' membrane", set, membrane, expected, cells(l), sizeof(float));
    same("neurons' spikes", set, out, right, n.steps * n.out_step, sizeof *out);
    free(membrane), free(expected), free(out), free(right);
}

static void check_layer(void) {
    layer l = {0};
    some_geometry(&l), some_weights(&l), some_spikes(&l), some_neurons(&l);
    plainly(&l);
    for (int32_t set = LS_PLAIN; set <= LS_AVX512; set++) {
        const ls_kernels *k = ls_kernels_of(set);
        if (!k || !k->pack_room(&l.rows)) continue;
        uint64_t before = state;
        check_events(&l, k, set), check_dense(&l, k, set), check_neurons(&l, k, set);
        state = before;
    }
    free((void *)l.rows.weights), free((void *)l.call.bits), free(l.image), free(l.before), free(l.last), free(l.current);
    free(l.membrane), free(l.out), free((void *)l.call.scale), free((void *)l.call.shift);
    free((void *)l.call.neurons.leak), free((void *)l.call.neurons.threshold);
}

int main(int count, char **words) {
    seed = count > 1 ? strtoull(words[1], NULL, 10) : 1;
    uint64_t rounds = count > 2 ? strtoull(words[2], NULL, 10) : 150;
    for (number = 0; number < rounds; number++) {
        state = seed * 1000003u + number;
        check_layer();
    }
    return 0;
}
