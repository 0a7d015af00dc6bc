/* Max pools of rate gradients: what they make of all steps, its mean, and whose inputs it was. The interface.
 *
 * Everything is pointers and sizes; the caller owns all memory. A step is [images, height, width, channels]
 * (channels_last) without gaps. Windows do not reach over an edge.
 */
#ifndef LEANSPIKE_POOL_H
#define LEANSPIKE_POOL_H

#include "native.h"

typedef struct {
    int64_t input, output, kernel, stride;
} pool_axis;

typedef struct {
    const void *x;       /* input, steps x_step apart */
    const float *shares; /* [steps]: what a step adds to the share of the input that is the largest in it */
    void *y, *mean_y;    /* the largest of each window, steps one after the other; the mean of all steps */
    float *parts;        /* [kernel height, kernel width, like a step of y]: the shares of each input of a
                            window. Of several largest the first one has the step's */
    int64_t images, channels, steps, x_step; /* the last in elements */
    pool_axis rows, columns;
    native_means means;
    int32_t bf16; /* x, y and mean_y are bfloat16, else float32 */
} pool_call;

/* Returns 0; 1 where a window has a NaN, which nothing is as large as; -1 where memory is short. */
int leanspike_pool(const pool_call *call);

#endif
