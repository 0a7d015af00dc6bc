/* Max pools of rate gradients: rows of the output shared out. */
#include "pool.h"

#include <stdatomic.h>

/* Elements of a step of y. */
static int64_t step_of(const pool_call *p) {
    return p->images * p->rows.output * p->columns.output * p->channels;
}

#define EACH "pool_block.h"
#include "each_set.h"

typedef int row_fn(const pool_call *, int64_t row, float *room);
static row_fn *const rows[] = {
    pool_row_plain,
#ifdef HAVE_X86
    pool_row_avx2,
    pool_row_avx512,
#endif
};

typedef struct {
    const pool_call *call;
    atomic_int *missing;
} task;

static void work_on(const void *data, int64_t row, void *room) {
    const task *t = data;
    if (rows[t->call->means.instructions](t->call, row, room)) atomic_store(t->missing, 1);
}

int leanspike_pool(const pool_call *call) {
    atomic_int missing = 0;
    task t = {.call = call, .missing = &missing};
    native_job job = {.work = work_on, .task = &t, .pieces = call->images * call->rows.output};
    job.scratch = (size_t)(3 * call->channels) * sizeof(float);
    int64_t work = call->images * call->rows.input * call->columns.input * call->channels * call->steps;
    return native_run_walk(&job, &call->means, work) ? -1 : atomic_load(&missing);
}
