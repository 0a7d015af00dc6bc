/* What the loops of lif.c share: a call made ready, what a block of it has of its own, what it reads next. */
#ifndef LEANSPIKE_LIF_TASK_H
#define LEANSPIKE_LIF_TASK_H

#include "lif.h"

/* What the loops need, worked out once per call. */
typedef struct {
    float sign; /* of the threshold; inputs and membranes below are times it */
    float leak, threshold, inverse_threshold;
    float quiet;     /* threshold * 0: what a soft reset subtracts without a spike */
    float low, high; /* the output without and with a spike */
    float initial, initial_learns, height_learns; /* ... learns: d/d(threshold) */
    float floor, lowest; /* of the membranes after a step, where they are `floored` */
    int floored;
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

/* Scales, shifts and centres of the channels, of each step or the same for all, in the order in which
 * groups read them: again and again for a group and more than all channels, and in bfloat16 first those
 * of even elements, then those of odd ones. */
typedef struct {
    float *scale, *shift, *centre; /* NULL: there is no norm */
    int64_t period;                /* elements after which the channels come again, even in bfloat16 */
    int64_t half, length;          /* floats of the even elements, of all */
    int64_t step;                  /* from one step to the next, or 0 */
} norm_table;

typedef struct {
    const lif_call *call;
    neuron neuron;
    norm_table norm;
    int64_t width;        /* bytes of an element */
    int64_t group, block; /* elements: what the loops compute at once; a piece of the work */
    int passing;          /* results are written past the caches, in whole lines of them */
    double *sums;         /* backward: two per block */
    double *norm_sums;    /* backward: as of grad_norm, of each block */
    int64_t channel_sums; /* doubles of a block among them */
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

/* What a block has of its own. */
typedef struct {
    prefetch ahead;
    int64_t origin;  /* of the first element among all, where a block is a copy */
    void *befores;   /* membranes of all steps */
    float *channels; /* sums of a norm, in the order of its table, of a part of the block */
    char *rest;      /* compute_rest()'s */
    double sums[2];
    double *norm_sums;
} place;

static inline int64_t place_of(const norm_table *n, int64_t element) {
    return n->scale ? element % n->period : 0;
}

/* Computes elements from `start` to `end`, a whole number of groups. */
typedef void range_fn(const task *, place *, int64_t start, int64_t end);

#endif
