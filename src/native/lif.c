/* Leaky integrate-and-fire neurons over all timesteps: constants, and blocks shared out. */
#include "lif.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#if FLT_EVAL_METHOD != 0
#error "float arithmetic must round to float, or spikes would differ from the reference"
#endif

/* What the loops need, worked out once per call. */
typedef struct {
    float leak, threshold, inverse_threshold;
    float sign, magnitude; /* of the threshold */
    float quiet;           /* threshold * 0: what a soft reset subtracts without a spike */
    float low, high;       /* the output without and with a spike */
    uint16_t low_bf16, high_bf16;
    float initial, initial_learns;
    float height_slope, height_learns; /* height of a spike / threshold; d(height)/d(threshold) */
    float scale, inverse_width, half_width, arctan_slope;
} neuron;

enum { PARTIAL = 1024 }; /* so many terms are added up in float32 lanes, then in double */

static inline void *element(const lif_call *c, const void *data, int64_t i) {
    return (char *)data + i * (c->bf16 ? 2 : 4);
}

#define PRAGMA(text) _Pragma(#text)
#define SIMD(clauses) PRAGMA(omp simd clauses)

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

typedef void forward_fn(const lif_call *, const neuron *, int64_t, int, float *);
typedef void backward_fn(const lif_call *, const neuron *, int64_t, int, float *, double *);

#ifdef HAVE_X86
static forward_fn *const forward_blocks[] = {forward_block_plain, forward_block_avx2,
                                             forward_block_avx512};
static backward_fn *const backward_blocks[] = {backward_block_plain, backward_block_avx2,
                                               backward_block_avx512};
#else
static forward_fn *const forward_blocks[] = {forward_block_plain};
static backward_fn *const backward_blocks[] = {backward_block_plain};
#endif

static neuron prepare(const lif_call *c) {
    neuron p = {.leak = c->leak, .threshold = c->threshold};
    p.inverse_threshold = 1.0f / c->threshold;
    p.sign = copysignf(1.0f, c->threshold);
    p.magnitude = fabsf(c->threshold);
    p.quiet = c->threshold * 0.0f;
    p.low = c->threshold_height ? p.quiet : 0.0f;
    p.high = c->threshold_height ? c->threshold : 1.0f;
    p.low_bf16 = to_bfloat16(p.low);
    p.high_bf16 = to_bfloat16(p.high);
    p.initial = c->half_initial ? c->threshold / 2.0f : 0.0f;
    p.initial_learns = c->half_initial ? c->leak / 2.0f : 0.0f;
    p.height_slope = p.high * p.inverse_threshold;
    p.height_learns = c->threshold_height ? 1.0f : 0.0f;
    p.scale = c->surrogate_scale;
    p.inverse_width = 1.0f / c->surrogate_width;
    p.half_width = c->surrogate_width / 2.0f;
    p.arctan_slope = 1.57079632679489662f * c->surrogate_scale;
    return p;
}

enum {
    BLOCK = 8192,             /* elements: long stretches of memory; rows are whole cache lines */
    MOST_MEMBRANES = 131072,  /* of one block, all steps: they should stay in the L2 cache */
    ROOMS = 4,                /* rows of scratch besides those membranes */
    WORTH_A_THREAD = 1 << 18, /* elements times steps, of a new one */
    WORTH_A_WAITING = 1 << 15 /* of one that waits in the caller's pool */
};

typedef struct {
    const lif_call *call;
    neuron neuron;
    int64_t block; /* elements */
    double *sums;  /* backward: two per block */
} task;

static void work_on(const void *data, int64_t b, void *scratch) {
    const task *t = data;
    const lif_call *c = t->call;
    int64_t start = b * t->block, left = c->size - start;
    int n = (int)(left < t->block ? left : t->block);
    if (c->spikes)
        forward_blocks[c->means.instructions](c, &t->neuron, start, n, scratch);
    else
        backward_blocks[c->means.instructions](c, &t->neuron, start, n, scratch, t->sums + 2 * b);
}

static void add_up(const lif_call *c, const double *sums, int64_t blocks) {
    c->grad_neuron[0] = c->grad_neuron[1] = 0.0;
    for (int64_t b = 0; b < blocks; b++) {
        c->grad_neuron[0] += sums[2 * b];
        c->grad_neuron[1] += sums[2 * b + 1];
    }
}

int leanspike_lif(const lif_call *call) {
    task t = {.call = call, .neuron = prepare(call), .block = BLOCK};
    while (t.block > 128 && t.block * call->steps > MOST_MEMBRANES) t.block /= 2;
    int64_t blocks = (call->size + t.block - 1) / t.block;
    if (!call->spikes && !(t.sums = malloc((size_t)(2 * blocks + 1) * sizeof *t.sums))) return -1;
    native_job job = {.work = work_on, .task = &t, .pieces = blocks};
    job.scratch = (size_t)(t.block * (ROOMS + (call->spikes ? 0 : call->steps))) * sizeof(float);
    native_means means = call->means;
    int64_t worth = call->size * call->steps / (means.parallel ? WORTH_A_WAITING : WORTH_A_THREAD);
    if (means.threads > worth) means.threads = (int32_t)worth;
    int failed = native_run(&job, &means);
    if (!failed && call->grad_neuron) add_up(call, t.sums, blocks);
    free(t.sums);
    return failed;
}
