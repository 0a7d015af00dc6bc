/* Batch norms in training: moments of each channel, and the gradient of the input. The interface.
 *
 * Everything is pointers and sizes; the caller owns all memory. A step is [rows, channels] without gaps,
 * whose channels lie together: images in channels_last have a row for each pixel.
 */
#ifndef LEANSPIKE_NORM_H
#define LEANSPIKE_NORM_H

#include "native.h"

typedef struct {
    const void *x;       /* input, steps x_step apart */
    double *moments;     /* moments: [groups, 2, channels], means and variances (of n values, over n) */
    void *mean_x;        /* moments: the mean of all steps, [rows, channels]; NULL: not wanted */
    double *mean_square; /* moments: with mean_x, its variances, [channels] */
    const void *grad;    /* backward: steps grad_step apart */
    void *grad_x;        /* backward: of_grad * grad + of_x * (x - centre) + constant, steps rows *
                            channels apart; it may be `grad` itself */
    const float *of_grad, *of_x, *centre, *constant; /* backward: [groups, channels] each */
    native_means means;
    int64_t rows, channels, steps, x_step, grad_step; /* the last two in elements */
    int32_t bf16;     /* x, mean_x, grad and grad_x are bfloat16, else float32; sums are float32 */
    int32_t per_step; /* each step is a group of its own, else all steps are one */
} norm_call;

/* Moments if `moments` is given, else backward. Returns 0, or -1 where memory is short. */
int leanspike_norm(const norm_call *call);

#endif
