/* Leaky integrate-and-fire neurons over all timesteps: constants, and dividing the work into blocks. */
#include "lif_task.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#ifdef HAVE_X86
#include <immintrin.h>
#endif

#if FLT_EVAL_METHOD != 0
#error "float arithmetic must round to float, or spikes would differ from the reference"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "of two bfloat16 the first must be the lower half"
#endif

#define HALF_PI 1.57079632679489662f

/* Stores that bypass the caches, if the processor has any. */
#ifdef HAVE_X86
#define STREAM_plain _mm_stream_ps
#define STREAM_avx2 _mm256_stream_ps
#define STREAM_avx512 _mm512_stream_ps
#else
#define STREAM_plain(to, value) memcpy(to, &(value), sizeof(value))
#endif
#define STREAM PASTE(STREAM, SET)

#define SET plain
#define FEW /* few functions for rates: this set is the last resort */
#include "lif_rows.h"
#include "lif_block.h"
#include "lif_rates.h"
#include "lif_rows_end.h"
#ifndef FEW_KERNELS /* defined under sanitizers, where all kernels would take minutes to compile */
#undef FEW
#endif
#undef SET

#ifdef HAVE_X86
#define SET avx2
#include "lif_rows.h"
#include "lif_block.h"
#include "lif_rates.h"
#include "lif_rows_end.h"
#undef SET
#define SET avx512
#include "lif_rows.h"
#include "lif_block.h"
#include "lif_rates.h"
#include "lif_rows_end.h"
#undef SET
#endif

#ifdef HAVE_X86
static range_fn *const forward[] = {forward_plain, forward_avx2, forward_avx512};
static range_fn *const backward[] = {backward_plain, backward_avx2, backward_avx512};
static range_fn *const rates[] = {rates_plain, rates_avx2, rates_avx512};
static const int64_t groups[] = {group_plain, group_avx2, group_avx512};
#else
static range_fn *const forward[] = {forward_plain};
static range_fn *const backward[] = {backward_plain};
static range_fn *const rates[] = {rates_plain};
static const int64_t groups[] = {group_plain};
#endif

static float as_stored(const lif_call *c, float value) {
    return c->bf16 ? from_bfloat16(to_bfloat16(value)) : value;
}

/* Gives NaN zeros in its lower half, as rounding to bfloat16 needs it. */
static float one_nan(float value) { return isnan(value) ? NAN : value; }

static neuron prepare(const lif_call *c) {
    const float threshold = one_nan(c->threshold);
    neuron k = {.sign = copysignf(1.0f, threshold), .leak = one_nan(c->leak)};
    k.threshold = fabsf(threshold);
    k.inverse_threshold = 1.0f / k.threshold;
    k.quiet = k.threshold * 0.0f;
    k.low = as_stored(c, c->threshold_height ? threshold * 0.0f : 0.0f);
    k.high = as_stored(c, c->threshold_height ? threshold : 1.0f);
    k.floored = !isinf(c->floor), k.floor = k.floored ? c->floor : 0.0f;
    k.lowest = -k.floor * threshold;
    k.initial = c->half_initial ? k.threshold / 2.0f : 0.0f;
    k.initial_learns = c->half_initial ? k.leak / 2.0f : 0.0f;
    k.height_learns = c->threshold_height ? 1.0f : 0.0f;
    k.sign_x = c->threshold_height ? 1.0f : k.sign;
    const float width = c->surrogate_width, scale = c->surrogate_scale;
    const float rise = (c->threshold_height ? k.threshold : 1.0f) * k.inverse_threshold;
    switch (c->surrogate) {
    case SURROGATE_TRIANGLE: k.peak = rise * scale, k.steepness = k.peak / width; break;
    case SURROGATE_ARCTAN: k.peak = rise * scale / 2.0f, k.steepness = HALF_PI * scale; break;
    case SURROGATE_SIGMOID: k.peak = rise * scale, k.steepness = scale; break;
    default: k.peak = rise / width, k.half_width = width / 2.0f;
    }
    return k;
}

static int64_t tables(const lif_call *c) { return c->norm_step ? c->steps : 1; }

static size_t channels_room(const task *t) {
    return t->norm_sums ? (size_t)(2 * tables(t->call) * t->norm.length) * sizeof(float) : 0;
}

/* Returns the channel of place k in a table. */
static int64_t channel_at(const task *t, int64_t k) {
    const norm_table *n = &t->norm;
    int64_t element = !t->call->bf16 ? k : k < n->half ? 2 * k : 2 * (k - n->half) + 1;
    return element % t->call->channels;
}

/* Adds the sums of a part to those of the block, which are double. */
static void add_channels(const task *t, place *p) {
    const norm_table *n = &t->norm;
    const int64_t channels = t->call->channels, rows = t->channel_sums / channels;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < n->length; k++)
            p->norm_sums[r * channels + channel_at(t, k)] += p->channels[r * n->length + k];
    memset(p->channels, 0, (size_t)(rows * n->length) * sizeof(float));
}

static void compute(const task *t, place *p, int64_t start, int64_t end) {
    const lif_call *c = t->call;
    range_fn *range = (!c->spikes ? backward : c->by_input ? rates : forward)[c->means.instructions];
    for (int64_t next; start < end; start = next) {
        next = least(start + PARTIAL, end);
        range(t, p, start, next);
        if (c->grad_norm) add_channels(t, p);
    }
}

static void copy_rows(void *to, int64_t to_step, const void *from, int64_t from_step, int64_t rows,
                      int64_t bytes) {
    for (int64_t r = 0; r < rows; r++)
        memcpy((char *)to + r * to_step, (const char *)from + r * from_step, (size_t)bytes);
}

/* Returns the bytes for a row of each step, in float32 or less. */
static int64_t rest_room(const task *t) {
    return (3 * t->call->steps + 6) * t->group * (int64_t)sizeof(float);
}

/* Takes room for one row of float32, if that output is wanted; else NULL. */
static void *row_of(void *wanted, char **room, int64_t group) {
    void *row = *room;
    *room += group * (int64_t)sizeof(float);
    return wanted ? row : NULL;
}

static void copy_row(void *to, const void *from, int64_t start, int64_t n, int64_t width) {
    if (to) memcpy((char *)to + start * width, from, (size_t)(n * width));
}

static void compute_last_forward(const task *rest, place *p, lif_call *c, const lif_call *whole,
                                 int64_t start, int64_t n, char *room) {
    const int64_t w = rest->width, group = rest->group;
    float *before = row_of((void *)whole->before, &room, group);
    if (before) c->before = memcpy(before, whole->before + start, (size_t)n * sizeof *before);
    c->after = row_of(whole->after, &room, group);
    c->mean = row_of(whole->mean, &room, group);
    c->by_input = row_of(whole->by_input, &room, group);
    c->by_leak = row_of(whole->by_leak, &room, group);
    c->by_threshold = row_of(whole->by_threshold, &room, group);
    compute(rest, p, 0, group);
    copy_rows((char *)whole->spikes + start * w, whole->size * w, c->spikes, group * w, c->steps, n * w);
    copy_row(whole->after, c->after, start, n, sizeof(float));
    copy_row(whole->mean, c->mean, start, n, w);
    copy_row(whole->by_input, c->by_input, start, n, sizeof(float));
    copy_row(whole->by_leak, c->by_leak, start, n, sizeof(float));
    copy_row(whole->by_threshold, c->by_threshold, start, n, sizeof(float));
}

/* Computes the last elements, fewer than a group, in rows of their own that zeros fill up. */
static void compute_rest(const task *t, place *p, int64_t start) {
    const lif_call *whole = t->call;
    const int64_t w = t->width, row = t->group * w, steps = whole->steps, n = whole->size - start;
    char *x = p->rest, *grad = x + steps * row, *result = grad + steps * row;
    lif_call c = *whole;
    task rest = *t;
    rest.call = &c, rest.passing = 0;
    p->ahead = (prefetch){.task = &rest};
    p->origin = start;
    memset(x, 0, (size_t)rest_room(t));
    c.size = c.x_step = c.grad_step = t->group;
    c.x = x;
    copy_rows(x, row, (const char *)whole->x + start * w, whole->x_step * w, steps, n * w);
    if (c.spikes) {
        c.spikes = result;
        compute_last_forward(&rest, p, &c, whole, start, n, result + steps * row);
        return;
    }
    c.grad = grad;
    if (c.grad_x) c.grad_x = result;
    copy_rows(grad, row, (const char *)whole->grad + start * w, whole->grad_step * w, steps, n * w);
    compute(&rest, p, 0, t->group);
    if (c.grad_x)
        copy_rows((char *)whole->grad_x + start * w, whole->size * w, result, row,
                  c.static_x ? 1 : steps, n * w);
}

static int64_t befores_room(const task *t) {
    return t->call->steps * t->group * (int64_t)sizeof(float);
}

static void work_on(const void *data, int64_t b, void *scratch) {
    const task *t = data;
    int64_t start = b * t->block, end = least(start + t->block, t->call->size);
    int64_t whole = end - (end - start) % t->group;
    place p = {.ahead = look_ahead(t, end), .befores = scratch};
    p.rest = (char *)scratch + befores_room(t);
    p.channels = (float *)(p.rest + rest_room(t));
    if (t->norm_sums) {
        p.norm_sums = t->norm_sums + b * t->channel_sums;
        memset(p.norm_sums, 0, (size_t)t->channel_sums * sizeof *p.norm_sums);
        memset(p.channels, 0, channels_room(t));
    }
    compute(t, &p, start, whole);
    if (whole < end) compute_rest(t, &p, whole);
    if (t->sums) memcpy(t->sums + 2 * b, p.sums, sizeof p.sums);
#ifdef HAVE_X86
    if (t->passing) _mm_sfence(); /* before other threads read the results */
#endif
}

/* Adds up in the order of the blocks, whichever threads computed them. */
static void add_up(double *to, const double *sums, int64_t each, int64_t blocks) {
    memset(to, 0, (size_t)each * sizeof *to);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < each; i++) to[i] += sums[b * each + i];
}

/* Returns 0, or -1 if memory is short. Call free(norm.scale) in any case. */
static int lay_out_norm(task *t) {
    const lif_call *c = t->call;
    norm_table *n = &t->norm;
    if (!c->scale) return 0;
    n->period = c->bf16 && c->channels % 2 ? 2 * c->channels : c->channels;
    n->length = n->period + t->group;
    n->length += n->length % 2;
    n->half = n->length / 2;
    n->step = c->norm_step ? n->length : 0;
    const int64_t all = tables(c) * n->length;
    if (!(n->scale = malloc((size_t)(3 * all) * sizeof *n->scale))) return -1;
    n->shift = n->scale + all, n->centre = n->shift + all;
    for (int64_t i = 0; i < all; i++) {
        int64_t from = i / n->length * c->norm_step + channel_at(t, i % n->length);
        n->scale[i] = one_nan(c->scale[from]);
        n->shift[i] = one_nan(c->shift[from]);
        n->centre[i] = c->centre ? one_nan(c->centre[from]) : 0.0f;
    }
    return 0;
}

/* Returns whether results are so large that they bypass the caches. These could keep little of them, and
 * would first have to read what is overwritten. */
static int can_pass(const task *t) {
    const lif_call *c = t->call;
    const void *to = c->spikes ? c->spikes : c->static_x ? NULL : c->grad_x;
    return to && c->size * c->steps * t->width >= PASSING && (uintptr_t)to % LINE == 0 &&
           c->size * t->width % LINE == 0;
}

/* Makes room for the sums of all blocks. Returns 0, or -1 if memory is short. */
static int make_room(task *t, int64_t blocks) {
    const lif_call *c = t->call;
    if (c->spikes) return 0;
    if (c->grad_norm) {
        t->channel_sums = 2 * tables(c) * c->channels;
        t->norm_sums = malloc((size_t)(t->channel_sums * blocks + 1) * sizeof *t->norm_sums);
        if (!t->norm_sums) return -1;
    }
    t->sums = malloc((size_t)(2 * blocks + 1) * sizeof *t->sums);
    return t->sums ? 0 : -1;
}

int leanspike_lif(const lif_call *call) {
    task t = {.call = call, .neuron = prepare(call), .block = BLOCK};
    t.width = call->bf16 ? 2 : 4;
    t.group = groups[call->means.instructions];
    t.passing = can_pass(&t);
    while (t.block > 128 && t.block * call->steps > MOST_READ) t.block /= 2;
    int64_t blocks = parts(call->size, t.block);
    int failed = lay_out_norm(&t) || make_room(&t, blocks);
    native_job job = {.work = work_on, .task = &t, .pieces = blocks};
    job.scratch = (size_t)(befores_room(&t) + rest_room(&t)) + channels_room(&t);
    failed = failed || native_run_walk(&job, &call->means, call->size * call->steps);
    if (!failed && call->grad_neuron) add_up(call->grad_neuron, t.sums, 2, blocks);
    if (!failed && call->grad_norm) add_up(call->grad_norm, t.norm_sums, t.channel_sums, blocks);
    free(t.sums), free(t.norm_sums), free(t.norm.scale);
    return failed ? -1 : 0;
}
