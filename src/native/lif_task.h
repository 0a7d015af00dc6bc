/* The records that the loops of lif.c share: a prepared call, a block, and what the next block reads. */
#ifndef LEANSPIKE_LIF_TASK_H
#define LEANSPIKE_LIF_TASK_H

#include "lif.h"

/* The constants of the loops, computed once per call. */
typedef struct {
    float sign; /* the threshold's sign, by which inputs and membranes are multiplied */
    float leak, threshold, inverse_threshold;
    float quiet;     /* threshold * 0, which a soft reset subtracts without a spike */
    float low, high; /* the output without and with a spike */
    float initial, initial_learns, height_learns; /* ... learns: d/d(threshold) */
    float floor, lowest; /* the floor of membranes after a step, if they are `floored` */
    int floored;
    float sign_x; /* the sign of dL/dx; derivative() omits that of the height */
    float peak, steepness, half_width; /* constants of derivative() */
} neuron;

enum {
    VECTORS = 4,              /* vectors computed side by side, since each waits for its own last step */
    BLOCK = 8192,             /* elements: long stretches of memory; rows are whole cache lines */
    MOST_READ = 65536,        /* elements times steps of a block, which fit the L2 cache */
    PARTIAL = 2048,           /* elements whose sums are added up in float32, then in double */
    PASSING = 1 << 22         /* bytes from which on results bypass the caches */
};

/* The scales, shifts and centres of the channels, for each step or for all, in the order in which groups read
 * them. They are repeated for more than all channels and a group. In bfloat16 those of even elements
 * come first, then those of odd ones. */
typedef struct {
    float *scale, *shift, *centre; /* NULL without a norm */
    int64_t period;                /* elements after which the channels repeat, even in bfloat16 */
    int64_t half, length;          /* floats of the even elements, and of all */
    int64_t step;                  /* floats from step to step, or 0 */
} norm_table;

typedef struct {
    const lif_call *call;
    neuron neuron;
    norm_table norm;
    int64_t width;        /* bytes of an element */
    int64_t group, block; /* elements that the loops compute at once, and of a piece of the work */
    int passing;          /* results bypass the caches, in whole lines */
    double *sums;         /* backward: two per block */
    double *norm_sums;    /* backward: the sums of grad_norm for each block */
    int64_t channel_sums; /* doubles of a block in norm_sums */
} task;

/* The rows that the next block will read. They are fetched into the L2 cache, little by little, while this
 * block is computed. Rows are far apart, so no processor guesses where the next one begins. */
typedef struct {
    const task *task;
    int64_t start;       /* element */
    int64_t row, at;     /* byte */
    int64_t rows, bytes; /* the rows, and the bytes of a row */
} prefetch;

static prefetch look_ahead(const task *t, int64_t start) {
    const lif_call *c = t->call;
    prefetch p = {.task = t, .start = start};
    p.bytes = least(t->block, c->size - start) * t->width;
    if (p.bytes > 0) p.rows = c->steps + (c->spikes ? 0 : c->grad_step ? c->steps : 1);
    if (!c->x_step) p.row = c->steps - 1; /* all steps are one row */
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

/* The memory of a block. */
typedef struct {
    prefetch ahead;
    int64_t origin;  /* the place of the first element among all, if the block is a copy */
    void *befores;   /* membranes of all steps */
    float *channels; /* sums of a norm over a part of the block, in the order of its table */
    char *rest;      /* memory of compute_rest() */
    double sums[2];
    double *norm_sums;
} place;

static inline int64_t place_of(const norm_table *n, int64_t element) {
    return n->scale ? element % n->period : 0;
}

/* Computes elements from `start` to `end`, a whole number of groups. */
typedef void range_fn(const task *, place *, int64_t start, int64_t end);

#endif
