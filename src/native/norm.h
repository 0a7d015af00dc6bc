/* Batch norms in training: moments of each channel, what is normalised by them, and gradients. The interface.
 *
 * Everything is pointers and sizes; the caller owns all memory. A step is [rows, channels, inner] without
 * gaps: inner is 1 where the channels lie together, as of images in channels_last (a row is then a pixel),
 * and else the size of a channel's plane (a row is then a sample). Groups are the steps if per_step, else one.
 */
#ifndef LEANSPIKE_NORM_H
#define LEANSPIKE_NORM_H

#include "native.h"

typedef struct {
    const void *x;       /* input, steps x_step apart */
    double *moments;     /* moments: [groups, 2, channels], means and variances (of n values, over n) */
    void *mean_x;        /* moments: the mean of all steps, like a step; NULL: not wanted */
    double *mean_square; /* moments: with mean_x, its variances, [channels] */
    double *shared;      /* moments: with mean_x and per_step, the covariances of each step and mean_x,
                            [steps, channels]; NULL: not wanted */
    void *y;             /* normalise: scale * x + shift, steps one after the other */
    void *mean_y;        /* normalise: the mean of all its steps; NULL: not wanted */
    const float *scale, *shift; /* normalise: [groups, channels] each */
    const void *grad;    /* sums, backward: steps grad_step apart */
    double *sums;        /* sums: [groups, 2, channels], of grad, and of grad * (x - centre) */
    void *grad_x;        /* backward: of_grad * grad + of_x * (x - centre) + constant, steps one after the
                            other; it may be `grad` itself */
    const float *of_grad, *of_x, *centre, *constant; /* sums (centre alone), backward: [groups, channels] */
    native_means means;
    int64_t rows, channels, inner, steps, x_step, grad_step; /* the last two in elements */
    int32_t bf16;     /* x, y, their means, grad and grad_x are bfloat16, else float32; sums are float32 */
    int32_t per_step; /* each step is a group of its own, else all steps are one */
} norm_call;

/* The first of moments, y, sums and grad_x that is given. Returns 0, or -1 where memory is short. */
int leanspike_norm(const norm_call *call);

#endif
