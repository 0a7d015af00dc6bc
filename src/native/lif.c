/* Leaky integrate-and-fire neurons over all timesteps: threads and the choice of instructions. */
#include "lif.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

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

/* Rounded to nearest even; every NaN to the same quiet one. */
static inline uint16_t bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

static inline void *element(const lif_call *c, const void *data, int64_t i) {
    return (char *)data + i * (c->bf16 ? 2 : 4);
}

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(f) PASTE(f, SET)
#define PRAGMA(text) _Pragma(#text)
#define SIMD(clauses) PRAGMA(omp simd clauses)

#define SET plain
#define TARGET
#include "lif_block.h"
#undef SET
#undef TARGET

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#define SET avx2
#define TARGET __attribute__((target("avx2")))
#include "lif_block.h"
#undef SET
#undef TARGET
#define SET avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#include "lif_block.h"
#undef SET
#undef TARGET
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

int leanspike_lif_version(void) { return LIF_VERSION; }

int leanspike_best_instructions(void) {
#ifdef HAVE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return INSTRUCTIONS_AVX512;
    if (__builtin_cpu_supports("avx2")) return INSTRUCTIONS_AVX2;
#endif
    return INSTRUCTIONS_PLAIN;
}

static neuron prepare(const lif_call *c) {
    neuron p = {.leak = c->leak, .threshold = c->threshold};
    p.inverse_threshold = 1.0f / c->threshold;
    p.sign = copysignf(1.0f, c->threshold);
    p.magnitude = fabsf(c->threshold);
    p.quiet = c->threshold * 0.0f;
    p.low = c->threshold_height ? p.quiet : 0.0f;
    p.high = c->threshold_height ? c->threshold : 1.0f;
    p.low_bf16 = bfloat16(p.low);
    p.high_bf16 = bfloat16(p.high);
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

/* Threads take one run of blocks after another (runs, so that each reads memory in longer pieces);
 * a block writes to places of its own. The calling thread works as well, and waits only for runs
 * that others have begun: a helper that starts late finds nothing left to do but to let go of the
 * job. Where the caller has a pool of OpenMP threads they are taken from it: new ones would have to
 * share the processors with those, which wait for their next work by spinning. Else no thread
 * outlives the call, so that nothing is left behind for a fork to break. */

enum {
    BLOCK = 2048,            /* elements; rows of scratch are whole cache lines */
    LINE = 64,               /* bytes */
    MOST_MEMBRANES = 32768,  /* of one block, all steps: they should stay in the cache */
    LONGEST_RUN = 8,         /* blocks */
    ROOMS = 4,               /* rows of scratch besides those membranes */
    MOST_HELPERS = 63,
    WORTH_A_THREAD = 1 << 18 /* elements times steps */
};

typedef struct {
    lif_call call;
    neuron neuron;
    int64_t block, blocks, run; /* elements in a block; blocks; blocks in a run */
    int64_t room;               /* floats of scratch per thread */
    atomic_int_least64_t next, done; /* blocks */
    atomic_int workers, holders;     /* threads that began; that may still look at the job */
    double *sums;                    /* backward: two per block */
    _Alignas(LINE) float scratch[];  /* whole lines of the cache for each vector */
} job;

static void work_on(job *j, int64_t b, float *scratch) {
    const lif_call *c = &j->call;
    int64_t start = b * j->block, left = c->size - start;
    int n = (int)(left < j->block ? left : j->block);
    if (c->spikes)
        forward_blocks[c->instructions](c, &j->neuron, start, n, scratch);
    else
        backward_blocks[c->instructions](c, &j->neuron, start, n, scratch, j->sums + 2 * b);
    atomic_fetch_add(&j->done, 1);
}

static void work(job *j) {
    float *scratch = j->scratch + j->room * atomic_fetch_add(&j->workers, 1);
    int64_t first;
    while ((first = atomic_fetch_add(&j->next, j->run)) < j->blocks)
        for (int64_t b = first; b < first + j->run && b < j->blocks; b++) work_on(j, b, scratch);
}

static void let_go(job *j) {
    if (atomic_fetch_sub(&j->holders, 1) > 1) return;
    free(j->sums);
    free(j);
}

static void *help(void *argument) {
    work(argument);
    let_go(argument);
    return NULL;
}

static int helpers_for(const lif_call *c, int64_t blocks) {
    int64_t threads = c->size * c->steps / WORTH_A_THREAD;
    if (threads > c->threads) threads = c->threads;
    if (threads > blocks) threads = blocks;
    if (threads > MOST_HELPERS + 1) threads = MOST_HELPERS + 1;
    return threads > 1 ? (int)threads - 1 : 0;
}

/* A job for 1 + helpers threads, held by the caller; NULL where memory is short. */
static job *plan(const lif_call *c, int *helpers) {
    int64_t block = BLOCK;
    while (block > 128 && block * c->steps > MOST_MEMBRANES) block /= 2;
    int64_t blocks = (c->size + block - 1) / block;
    int64_t room = block * (ROOMS + (c->spikes ? 0 : c->steps));
    *helpers = helpers_for(c, blocks);
    job *j = aligned_alloc(LINE, sizeof *j + (size_t)(room * (1 + *helpers)) * sizeof(float));
    if (!j) return NULL;
    *j = (job){.call = *c, .neuron = prepare(c), .block = block, .blocks = blocks, .room = room};
    j->run = blocks / (4 * (1 + *helpers)); /* short enough for all to end at about one time */
    if (j->run > LONGEST_RUN) j->run = LONGEST_RUN;
    if (j->run < 1) j->run = 1;
    j->holders = 1;
    if (!c->spikes && !(j->sums = malloc((size_t)(2 * blocks + 1) * sizeof(double)))) {
        free(j);
        return NULL;
    }
    return j;
}

static void work_in_team(void *j) { work(j); }

static void run(job *j, int helpers) {
    if (helpers > 0 && j->call.parallel) {
        j->call.parallel(work_in_team, j, (unsigned)helpers + 1, 0);
        return; /* when all of the team have */
    }
    for (int i = 0; i < helpers; i++) {
        pthread_t thread;
        atomic_fetch_add(&j->holders, 1);
        if (pthread_create(&thread, NULL, help, j) == 0) pthread_detach(thread);
        else atomic_fetch_sub(&j->holders, 1);
    }
    work(j);
    int polls = 0;
    while (atomic_load(&j->done) < j->blocks)
        if (polls < 50000) polls++;
        else sched_yield(); /* no run takes so long: its thread was suspended */
}

int leanspike_lif(const lif_call *call) {
    int helpers;
    job *j = plan(call, &helpers);
    if (!j) return -1;
    run(j, helpers);
    if (call->grad_neuron) {
        call->grad_neuron[0] = call->grad_neuron[1] = 0.0;
        for (int64_t b = 0; b < j->blocks; b++) {
            call->grad_neuron[0] += j->sums[2 * b];
            call->grad_neuron[1] += j->sums[2 * b + 1];
        }
    }
    let_go(j);
    return 0;
}
