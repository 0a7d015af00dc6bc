/* The gradients of neurons' mean outputs by their mean inputs and by parameters of a layer. The interface.
 *
 * Everything is pointers and sizes; the caller owns all memory. All tensors have their elements in one order.
 */
#ifndef LEANSPIKE_RATES_H
#define LEANSPIKE_RATES_H

#include "native.h"

enum { RATES_PARAMETERS = 2 };

typedef struct {
    const void *grad;                  /* dL/d(mean output) */
    const float *by_input;             /* d(mean output)/d(mean input) of each neuron */
    const float *by[RATES_PARAMETERS]; /* d(mean output)/d(parameter); NULL: no such parameter */
    void *grad_x;                      /* grad * by_input */
    double *sums;                      /* of grad * by, for each parameter */
    int64_t size;                      /* neurons */
    native_means means;
    int32_t bf16; /* grad and grad_x are bfloat16, else float32 */
} rates_call;

/* Returns 0, or -1 where memory is short. No bit depends on the threads. */
int leanspike_rates(const rates_call *call);

#endif
