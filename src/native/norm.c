/* Batch norms in training: blocks of rows shared out, and their moments put together. */
#include "norm.h"

#include <stdlib.h>

enum {
    BLOCK = 8192,             /* elements of a step of a block, or a row */
    PARTIAL = 128,            /* rows whose sums are added up in float32, then in double */
    WORTH_A_THREAD = 1 << 18, /* elements of all steps, of a new one */
    WORTH_A_WAITING = 1 << 15 /* of one that waits in the caller's pool */
};

/* Sums of a part, [channels] each: distances from the pivot, and of the steps' mean. */
typedef struct {
    float *pivot, *row, *all, *squares, *means, *mean_squares;
} sums;

enum { SUMS = 6 };

static sums sums_in(float *room, int64_t channels) {
    return (sums){room, room + channels, room + 2 * channels, room + 3 * channels, room + 4 * channels,
                  room + 5 * channels};
}

static void clear(sums *s, int64_t channels) {
    memset(s->all, 0, (size_t)(4 * channels) * sizeof *s->all);
}

#define SET plain
#include "norm_block.h"
#undef SET

#ifdef HAVE_X86
#define SET avx2
#include "norm_block.h"
#undef SET
#define SET avx512
#include "norm_block.h"
#undef SET
#endif

typedef void moments_fn(const norm_call *, sums *, int64_t row, int64_t end, int64_t step, int64_t last);
typedef void backward_fn(const norm_call *, int64_t row, int64_t end);
#ifdef HAVE_X86
static moments_fn *const moments[] = {moments_plain, moments_avx2, moments_avx512};
static backward_fn *const backward[] = {backward_plain, backward_avx2, backward_avx512};
#else
static moments_fn *const moments[] = {moments_plain};
static backward_fn *const backward[] = {backward_plain};
#endif

typedef struct {
    const norm_call *call;
    int64_t block;  /* rows */
    int64_t groups; /* those of the steps, and one for their mean */
    double *found;  /* of each block [groups, 2, channels]: means, and sums of squares around them */
} task;

static int64_t step_groups(const norm_call *n) { return n->per_step ? n->steps : 1; }

/* The moments of two parts together (Chan, Golub and LeVeque 1979): `count` values, then `more`. */
static void put_together(double *mean, double *square, double count, double more_mean, double more_square,
                         double more) {
    double apart = more_mean - *mean, all = count + more;
    *square += more_square + apart * apart * (count * more / all);
    *mean += apart * (more / all);
}

/* From sums around a pivot to a mean and a sum of squares around it, added to those of the block. */
static void add_part(double *block, int64_t channels, const float *pivot, const float *all,
                     const float *squares, double before, double count) {
    for (int64_t c = 0; c < channels; c++) {
        double sum = all[c], square = squares[c] - sum * sum / count;
        put_together(&block[c], &block[channels + c], before, pivot[c] + sum / count, square, count);
    }
}

static void moments_of(const task *t, int64_t b, float *room) {
    const norm_call *n = t->call;
    const int64_t first = b * t->block, end = least(first + t->block, n->rows), channels = n->channels;
    double *block = t->found + b * t->groups * 2 * channels;
    sums s = sums_in(room, channels);
    memset(block, 0, (size_t)(t->groups * 2 * channels) * sizeof *block);
    for (int64_t next, row = first; row < end; row = next) {
        next = least(row + PARTIAL, end);
        for (int64_t g = 0; g < step_groups(n); g++) {
            int64_t steps = n->per_step ? 1 : n->steps;
            moments[n->means.instructions](n, &s, row, next, g, g + steps);
            add_part(block + g * 2 * channels, channels, s.pivot, s.all, s.squares,
                     (double)((row - first) * steps), (double)((next - row) * steps));
        }
        if (n->mean_x)
            add_part(block + (t->groups - 1) * 2 * channels, channels, s.pivot, s.means, s.mean_squares,
                     (double)(row - first), (double)(next - row));
    }
}

static void work_on(const void *data, int64_t b, void *scratch) {
    const task *t = data;
    const int64_t first = b * t->block, end = least(first + t->block, t->call->rows);
    if (t->found) moments_of(t, b, scratch);
    else backward[t->call->means.instructions](t->call, first, end);
}

/* All blocks, in their order, whichever threads computed them. */
static void put_blocks_together(const task *t, int64_t blocks) {
    const norm_call *n = t->call;
    const int64_t channels = n->channels, each = t->groups * 2 * channels;
    for (int64_t g = 0; g < t->groups; g++)
        for (int64_t c = 0; c < channels; c++) {
            const int of_mean = g == step_groups(n);
            const int64_t steps = of_mean || n->per_step ? 1 : n->steps;
            double mean = 0.0, square = 0.0;
            for (int64_t b = 0; b < blocks; b++) {
                const double *block = t->found + b * each + g * 2 * channels + c;
                int64_t before = b * t->block, rows = least(t->block, n->rows - before);
                put_together(&mean, &square, (double)(before * steps), block[0], block[channels],
                             (double)(rows * steps));
            }
            double variance = square / (double)(n->rows * steps);
            if (of_mean) n->mean_square[c] = variance;
            else n->moments[g * 2 * channels + c] = mean, n->moments[(g * 2 + 1) * channels + c] = variance;
        }
}

int leanspike_norm(const norm_call *call) {
    task t = {.call = call, .block = BLOCK / call->channels};
    if (t.block < 1) t.block = 1;
    t.groups = step_groups(call) + (call->mean_x ? 1 : 0);
    int64_t blocks = parts(call->rows, t.block), each = t.groups * 2 * call->channels;
    if (call->moments && !(t.found = malloc((size_t)(blocks * each + 1) * sizeof *t.found))) return -1;
    native_job job = {.work = work_on, .task = &t, .pieces = blocks};
    job.scratch = (size_t)(SUMS * call->channels) * sizeof(float);
    native_means means = call->means;
    int64_t work = call->rows * call->channels * call->steps;
    int64_t worth = work / (means.parallel ? WORTH_A_WAITING : WORTH_A_THREAD);
    if (means.threads > worth) means.threads = (int32_t)worth;
    int failed = native_run(&job, &means);
    if (!failed && call->moments) put_blocks_together(&t, blocks);
    free(t.found);
    return failed;
}
