/* Gradients of neurons' mean outputs: blocks of neurons shared out, and their sums put together. */
#include "rates.h"

#include <stdlib.h>

enum {
    LANES = 16,     /* products side by side that are added up apart */
    PARTIAL = 2048, /* products that are added up in float32, then in double */
    BLOCK = 1 << 15 /* neurons of a piece */
};

#define EACH "rates_block.h"
#include "each_set.h"

typedef void block_fn(const rates_call *, int64_t first, int64_t end, double *sums);
static block_fn *const blocks[] = {
    block_plain,
#ifdef HAVE_X86
    block_avx2,
    block_avx512,
#endif
};

typedef struct {
    const rates_call *call;
    double *sums; /* [pieces, parameters] */
} task;

static void work_on(const void *data, int64_t piece, void *scratch) {
    const task *t = data;
    (void)scratch;
    const int64_t first = piece * BLOCK, end = least(first + BLOCK, t->call->size);
    blocks[t->call->means.instructions](t->call, first, end, t->sums + piece * RATES_PARAMETERS);
}

int leanspike_rates(const rates_call *call) {
    const int64_t pieces = parts(call->size, BLOCK);
    task t = {.call = call, .sums = calloc((size_t)(pieces + 1) * RATES_PARAMETERS, sizeof(double))};
    if (!t.sums) return -1;
    native_job job = {.work = work_on, .task = &t, .pieces = pieces};
    int failed = native_run_walk(&job, &call->means, call->size);
    for (int p = 0; p < RATES_PARAMETERS; p++) {
        call->sums[p] = 0.0;
        for (int64_t i = 0; i < pieces; i++) call->sums[p] += t.sums[i * RATES_PARAMETERS + p];
    }
    free(t.sums);
    return failed;
}
