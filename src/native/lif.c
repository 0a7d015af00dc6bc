/* Leaky integrate-and-fire neurons over all timesteps: constants, and blocks shared out. */
#include "lif.h"

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

/* What the loops need, worked out once per call. */
typedef struct {
    float sign; /* of the threshold; inputs and membranes below are times it */
    float leak, threshold, inverse_threshold;
    float quiet;     /* threshold * 0: what a soft reset subtracts without a spike */
    float low, high; /* the output without and with a spike */
    float initial, initial_learns, height_learns; /* ... learns: d/d(threshold) */
    float sign_x; /* of dL/dx, where derivative() leaves out that of the height */
    float peak, steepness, half_width; /* of derivative() */
} neuron;

enum {
    VECTORS = 4,              /* that are computed side by side, as each waits for its own last step */
    BLOCK = 8192,             /* elements: long stretches of memory; rows are whole cache lines */
    MOST_READ = 65536,        /* elements times steps of a block: what waits for it in the L2 cache */
    PARTIAL = 2048,           /* elements whose sums are added up in float32, then in double */
    PASSING = 1 << 22,        /* bytes from which results are written past the caches */
    WORTH_A_THREAD = 1 << 18, /* elements times steps, of a new one */
    WORTH_A_WAITING = 1 << 15 /* of one that waits in the caller's pool */
};

typedef struct {
    const lif_call *call;
    neuron neuron;
    int64_t width;        /* bytes of an element */
    int64_t group, block; /* elements: what the loops compute at once; a piece of the work */
    int passing;          /* results are written past the caches, in whole lines of them */
    double *sums;         /* backward: two per block */
} task;

/* What the next block will read, row by row: fetched into the L2 cache, little by little, while this
 * one is computed. Rows lie far apart, and no processor guesses where the next goes on. */
typedef struct {
    const task *task;
    int64_t start;       /* element */
    int64_t row, at;     /* byte */
    int64_t rows, bytes; /* of a row */
} prefetch;

static prefetch look_ahead(const task *t, int64_t start) {
    const lif_call *c = t->call;
    prefetch p = {.task = t, .start = start};
    p.bytes = least(t->block, c->size - start) * t->width;
    if (p.bytes > 0) p.rows = c->steps + (c->spikes ? 0 : c->grad_step ? c->steps : 1);
    if (!c->x_step) p.row = c->steps - 1; /* all are one */
    return p;
}

static inline void fetch(prefetch *p, int64_t elements) {
    const lif_call *c = p->task->call;
    const int64_t width = p->task->width;
    int64_t bytes = elements * width;
    while (bytes > 0 && p->row < p->rows) {
        const char *row = p->row < c->steps
                              ? (const char *)c->x + p->row * c->x_step * width
                              : (const char *)c->grad + (p->row - c->steps) * c->grad_step * width;
        int64_t end = least(p->at + bytes, p->bytes);
        bytes -= end - p->at;
        for (; p->at < end; p->at += LINE)
            __builtin_prefetch(row + p->start * width + p->at, 0, 2);
        if (p->at >= p->bytes) p->at = 0, p->row++;
    }
}

/* Computes elements from `start` to `end`, a whole number of groups. */
typedef void range_fn(const task *, prefetch *, int64_t start, int64_t end, void *scratch,
                      double *sums);

/* Stores that pass the caches by, where there are any. */
#ifdef HAVE_X86
#define STREAM_plain _mm_stream_ps
#define STREAM_avx2 _mm256_stream_ps
#define STREAM_avx512 _mm512_stream_ps
#else
#define STREAM_plain(to, value) memcpy(to, &(value), sizeof(value))
#endif
#define STREAM PASTE(STREAM, SET)

#define SET plain
#include "lif_block.h"
#undef SET

#ifdef HAVE_X86
#define SET avx2
#include "lif_block.h"
#undef SET
#define SET avx512
#include "lif_block.h"
#undef SET
#endif

#ifdef HAVE_X86
static range_fn *const forward[] = {forward_plain, forward_avx2, forward_avx512};
static range_fn *const backward[] = {backward_plain, backward_avx2, backward_avx512};
static const int64_t groups[] = {group_plain, group_avx2, group_avx512};
#else
static range_fn *const forward[] = {forward_plain};
static range_fn *const backward[] = {backward_plain};
static const int64_t groups[] = {group_plain};
#endif

static float as_stored(const lif_call *c, float value) {
    return c->bf16 ? from_bfloat16(to_bfloat16(value)) : value;
}

/* NaN with zeros in its lower half, as rounding to bfloat16 wants it. */
static float one_nan(float value) { return isnan(value) ? NAN : value; }

static neuron prepare(const lif_call *c) {
    const float threshold = one_nan(c->threshold);
    neuron k = {.sign = copysignf(1.0f, threshold), .leak = one_nan(c->leak)};
    k.threshold = fabsf(threshold);
    k.inverse_threshold = 1.0f / k.threshold;
    k.quiet = k.threshold * 0.0f;
    k.low = as_stored(c, c->threshold_height ? threshold * 0.0f : 0.0f);
    k.high = as_stored(c, c->threshold_height ? threshold : 1.0f);
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

static void compute(const task *t, prefetch *ahead, int64_t start, int64_t end, void *scratch,
                    double *sums) {
    const lif_call *c = t->call;
    range_fn *range = (c->spikes ? forward : backward)[c->means.instructions];
    for (int64_t next; start < end; start = next) {
        next = least(start + PARTIAL, end);
        range(t, ahead, start, next, scratch, sums);
    }
}

static void copy_rows(void *to, int64_t to_step, const void *from, int64_t from_step, int64_t rows,
                      int64_t bytes) {
    for (int64_t r = 0; r < rows; r++)
        memcpy((char *)to + r * to_step, (const char *)from + r * from_step, (size_t)bytes);
}

/* The last elements, fewer than a group: in rows of their own, filled up with zeros. */
static void compute_rest(const task *t, int64_t start, char *scratch, double *sums) {
    const lif_call *whole = t->call;
    const int64_t w = t->width, row = t->group * w, steps = whole->steps, n = whole->size - start;
    char *x = scratch + steps * t->group * (int64_t)sizeof(float), *grad = x + steps * row;
    char *result = grad + steps * row;
    float *before = (float *)(result + steps * row), *after = before + t->group;
    lif_call c = *whole;
    task rest = *t;
    prefetch nothing = {.task = &rest};
    rest.call = &c, rest.passing = 0;
    memset(x, 0, (size_t)((char *)(after + t->group) - x));
    c.size = c.x_step = c.grad_step = t->group;
    c.x = x;
    copy_rows(x, row, (const char *)whole->x + start * w, whole->x_step * w, steps, n * w);
    if (c.spikes) {
        c.spikes = result;
        if (c.before) c.before = memcpy(before, whole->before + start, (size_t)n * sizeof *before);
        if (c.after) c.after = after;
        compute(&rest, &nothing, 0, t->group, scratch, sums);
        copy_rows((char *)whole->spikes + start * w, whole->size * w, result, row, steps, n * w);
        if (c.after) memcpy(whole->after + start, after, (size_t)n * sizeof *after);
    } else {
        c.grad = grad;
        if (c.grad_x) c.grad_x = result;
        copy_rows(grad, row, (const char *)whole->grad + start * w, whole->grad_step * w, steps, n * w);
        compute(&rest, &nothing, 0, t->group, scratch, sums);
        if (c.grad_x)
            copy_rows((char *)whole->grad_x + start * w, whole->size * w, result, row,
                      c.static_x ? 1 : steps, n * w);
    }
}

static void work_on(const void *data, int64_t b, void *scratch) {
    const task *t = data;
    int64_t start = b * t->block, end = least(start + t->block, t->call->size);
    int64_t whole = end - (end - start) % t->group;
    prefetch ahead = look_ahead(t, end);
    double sums[2] = {0.0, 0.0};
    compute(t, &ahead, start, whole, scratch, sums);
    if (whole < end) compute_rest(t, whole, scratch, sums);
    if (t->sums) memcpy(t->sums + 2 * b, sums, sizeof sums);
#ifdef HAVE_X86
    if (t->passing) _mm_sfence(); /* before other threads read it */
#endif
}

static void add_up(const lif_call *c, const double *sums, int64_t blocks) {
    c->grad_neuron[0] = c->grad_neuron[1] = 0.0;
    for (int64_t b = 0; b < blocks; b++) {
        c->grad_neuron[0] += sums[2 * b];
        c->grad_neuron[1] += sums[2 * b + 1];
    }
}

/* Large results pass the caches by, as those could keep little of them and would first have to read
 * what is overwritten. */
static int can_pass(const task *t) {
    const lif_call *c = t->call;
    const void *to = c->spikes ? c->spikes : c->static_x ? NULL : c->grad_x;
    return to && c->size * c->steps * t->width >= PASSING && (uintptr_t)to % LINE == 0 &&
           c->size * t->width % LINE == 0;
}

int leanspike_lif(const lif_call *call) {
    task t = {.call = call, .neuron = prepare(call), .block = BLOCK};
    t.width = call->bf16 ? 2 : 4;
    t.group = groups[call->means.instructions];
    t.passing = can_pass(&t);
    while (t.block > 128 && t.block * call->steps > MOST_READ) t.block /= 2;
    int64_t blocks = parts(call->size, t.block);
    if (!call->spikes && !(t.sums = malloc((size_t)(2 * blocks + 1) * sizeof *t.sums))) return -1;
    native_job job = {.work = work_on, .task = &t, .pieces = blocks};
    job.scratch = (size_t)((4 * call->steps + 2) * t.group) * sizeof(float); /* compute_rest()'s */
    native_means means = call->means;
    int64_t worth = call->size * call->steps / (means.parallel ? WORTH_A_WAITING : WORTH_A_THREAD);
    if (means.threads > worth) means.threads = (int32_t)worth;
    int failed = native_run(&job, &means);
    if (!failed && call->grad_neuron) add_up(call, t.sums, blocks);
    free(t.sums);
    return failed;
}
