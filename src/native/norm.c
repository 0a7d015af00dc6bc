/* Batch norms in training: blocks of rows shared out, and their sums put together. */
#include "norm.h"

#include <stdlib.h>

enum {
    BLOCK = 8192,             /* elements of a step of a block, or a row */
    PARTIAL = 128,            /* rows whose sums are added up in float32, then in double */
    LANES = 16,               /* values side by side in a plane that are summed apart */
    CHUNK = PARTIAL * LANES   /* elements of a plane whose sums are added up in float32 */
};

/* Sums of a part, [channels] each: distances from the pivots, of x and of the steps' mean. */
typedef struct {
    float *pivot, *all, *squares, *shared, *row, *mean_pivot, *means, *mean_squares;
} sums;

enum { SUMS = 8 };

static sums sums_in(float *room, int64_t channels) {
    const int64_t c = channels;
    return (sums){room,         room + c,     room + 2 * c, room + 3 * c,
                  room + 4 * c, room + 5 * c, room + 6 * c, room + 7 * c};
}

static void clear(float *values, int64_t count) { memset(values, 0, (size_t)count * sizeof *values); }

static int64_t step_groups(const norm_call *n) { return n->per_step ? n->steps : 1; }

/* What blocks find. Moments: [groups, and one for the mean of the steps] of [2, channels], means and sums of
 * squares around them, then `shared`, sums of products around means, [steps, channels]. Sums: [groups, 2,
 * channels]. */
static int64_t moment_groups(const norm_call *n) { return step_groups(n) + (n->mean_x ? 1 : 0); }

static int64_t found_by_block(const norm_call *n) {
    if (n->moments) return (moment_groups(n) * 2 + (n->shared ? n->steps : 0)) * n->channels;
    return n->sums && !n->y ? step_groups(n) * 2 * n->channels : 0;
}

/* Places among these: of the means of a group, and of products. */
static double *group_of(const norm_call *n, double *found, int64_t group) {
    return found + group * 2 * n->channels;
}

static double *shared_of(const norm_call *n, double *found, int64_t step) {
    return found + (moment_groups(n) * 2 + step) * n->channels;
}

/* The moments of two parts together (Chan, Golub and LeVeque 1979): `count` values, then `more`. */
static inline void put_together(double *mean, double *square, double count, double more_mean,
                                double more_square, double more) {
    double apart = more_mean - *mean, all = count + more;
    *square += more_square + apart * apart * (count * more / all);
    *mean += apart * (more / all);
}

/* From sums around a pivot to a mean and a sum of squares around it, added to those before. */
static inline void add_sums(double *mean, double *square, double pivot, double sum, double squares,
                            double before, double count) {
    put_together(mean, square, before, pivot + sum / count, squares - sum * sum / count, count);
}

/* The same of products of two kinds, whose means are still those before. */
static inline void add_products(double *shared, const double *means[2], const double pivots[2],
                                const double sums_of[2], double products, double before, double count) {
    double apart = pivots[0] + sums_of[0] / count - *means[0];
    double other = pivots[1] + sums_of[1] / count - *means[1];
    double own = products - sums_of[0] * sums_of[1] / count;
    *shared += own + apart * other * (before * count / (before + count));
}

static void add_part(double *group, int64_t channels, const float *pivot, const float *all,
                     const float *squares, double before, double count) {
    for (int64_t c = 0; c < channels; c++)
        add_sums(&group[c], &group[channels + c], pivot[c], all[c], squares[c], before, count);
}

static void add_shared(const norm_call *n, double *found, int64_t step, const sums *s, double before,
                       double count) {
    const double *own = group_of(n, found, step), *mean = group_of(n, found, n->steps);
    double *shared = shared_of(n, found, step);
    for (int64_t c = 0; c < n->channels; c++) {
        const double *means[2] = {&own[c], &mean[c]};
        const double pivots[2] = {s->pivot[c], s->mean_pivot[c]}, sums_of[2] = {s->all[c], s->means[c]};
        add_products(&shared[c], means, pivots, sums_of, s->shared[c], before, count);
    }
}

#define EACH "norm_planes.h" /* and norm_block.h, which it begins with */
#include "each_set.h"

/* Rows of a block: what they give is written, or added to `found`. */
typedef void work_fn(const norm_call *, int64_t row, int64_t end, double *found, float *room);
enum { MOMENTS, NORMALISE, SUM, BACKWARD, KINDS };
#define WORKS(set) {{moments_##set, normalise_##set, sum_##set, backward_##set}, \
                    {plane_moments_##set, plane_normalise_##set, plane_sum_##set, plane_backward_##set}}
static work_fn *const works[][2][KINDS] = {
    WORKS(plain),
#ifdef HAVE_X86
    WORKS(avx2),
    WORKS(avx512),
#endif
};

typedef struct {
    const norm_call *call;
    work_fn *work;
    int64_t block;       /* rows */
    int64_t each;        /* numbers that a block finds */
    double *found;
} task;

static void work_on(const void *data, int64_t b, void *scratch) {
    const task *t = data;
    const int64_t first = b * t->block, end = least(first + t->block, t->call->rows);
    double *found = t->found ? t->found + b * t->each : NULL;
    if (found) memset(found, 0, (size_t)t->each * sizeof *found);
    t->work(t->call, first, end, found, scratch);
}

static int kind_of(const norm_call *n) {
    return n->moments ? MOMENTS : n->y ? NORMALISE : n->sums ? SUM : BACKWARD;
}

/* All blocks, in their order, whichever threads computed them, into the first. */
static void put_blocks_together(const task *t, int64_t blocks) {
    const norm_call *n = t->call;
    double *all = t->found;
    for (int64_t b = 1; b < blocks; b++) {
        double *block = all + b * t->each;
        const double before = (double)(b * t->block * n->inner);
        const double rows = (double)(least(t->block, n->rows - b * t->block) * n->inner);
        for (int64_t s = 0; n->shared && s < n->steps; s++)
            for (int64_t c = 0; c < n->channels; c++) {
                const double *means[2] = {group_of(n, all, s) + c, group_of(n, all, n->steps) + c};
                const double more[2] = {group_of(n, block, s)[c], group_of(n, block, n->steps)[c]};
                const double none[2] = {0.0, 0.0};
                add_products(shared_of(n, all, s) + c, means, more, none, shared_of(n, block, s)[c],
                             before, rows);
            }
        for (int64_t g = 0; g < moment_groups(n); g++) {
            const double steps = n->per_step || g == step_groups(n) ? 1.0 : (double)n->steps;
            double *mean = group_of(n, all, g), *more = group_of(n, block, g);
            for (int64_t c = 0; c < n->channels; c++)
                put_together(&mean[c], &mean[n->channels + c], before * steps, more[c],
                             more[n->channels + c], rows * steps);
        }
    }
}

/* From sums of squares and products to variances and covariances, where the caller wants them. */
static void tell_moments(const norm_call *n, double *found) {
    const int64_t channels = n->channels;
    const double values = (double)(n->rows * n->inner), of_group = n->per_step ? 1.0 : (double)n->steps;
    for (int64_t g = 0; g < step_groups(n); g++)
        for (int64_t c = 0; c < channels; c++) {
            const double *group = group_of(n, found, g);
            n->moments[g * 2 * channels + c] = group[c];
            n->moments[(g * 2 + 1) * channels + c] = group[channels + c] / (values * of_group);
        }
    for (int64_t c = 0; n->mean_x && c < channels; c++)
        n->mean_square[c] = group_of(n, found, step_groups(n))[channels + c] / values;
    for (int64_t i = 0; n->shared && i < n->steps * channels; i++)
        n->shared[i] = shared_of(n, found, 0)[i] / values;
}

static void tell_sums(const task *t, int64_t blocks) {
    for (int64_t i = 0; i < t->each; i++) {
        double sum = 0.0;
        for (int64_t b = 0; b < blocks; b++) sum += t->found[b * t->each + i];
        t->call->sums[i] = sum;
    }
}

int leanspike_norm(const norm_call *call) {
    const int kind = kind_of(call);
    task t = {.call = call, .block = BLOCK / (call->channels * call->inner)};
    if (t.block < 1) t.block = 1;
    t.each = found_by_block(call);
    t.work = works[call->means.instructions][call->inner > 1][kind];
    int64_t blocks = parts(call->rows, t.block);
    if (t.each && !(t.found = malloc((size_t)(blocks * t.each + 1) * sizeof *t.found))) return -1;
    native_job job = {.work = work_on, .task = &t, .pieces = blocks};
    job.scratch = (size_t)(SUMS * call->channels) * sizeof(float);
    int failed = native_run_walk(&job, &call->means, call->rows * call->channels * call->inner * call->steps);
    if (!failed && kind == MOMENTS) {
        put_blocks_together(&t, blocks);
        tell_moments(call, t.found);
    }
    if (!failed && kind == SUM) tell_sums(&t, blocks);
    free(t.found);
    return failed;
}
