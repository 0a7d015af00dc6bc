/* The interface of leaky integrate-and-fire neurons over all timesteps.
 *
 * All arguments are pointers and sizes. The caller owns all memory. The T steps of a tensor have
 * equal distances. The `size` elements of a step have no gaps, and the same order in every tensor
 * of a call.
 */
#ifndef LEANSPIKE_LIF_H
#define LEANSPIKE_LIF_H

#include "native.h"

enum { SURROGATE_TRIANGLE, SURROGATE_ARCTAN, SURROGATE_SIGMOID, SURROGATE_RECTANGLE };

/* After a spike: u <- u - threshold; or u <- 0; or the next step subtracts the threshold, after the leak. */
enum { RESET_SOFT, RESET_HARD, RESET_UNDECAYED };

typedef struct {
    const void *x;       /* input, steps x_step apart */
    void *spikes;        /* forward: the output, steps `size` apart */
    const float *before; /* forward: the membranes before the first step; NULL: their initial values */
    float *after;        /* forward: the membranes after the last step; NULL: not wanted */
    void *mean;          /* forward: the mean output; by_input is given as well */
    float *by_input;     /* forward: the derivative of each neuron's mean output by its mean input; */
    float *by_leak;      /* by the leak, NULL: not wanted; */
    float *by_threshold; /* by the threshold, likewise both or none. NULL: none of these four */
    const float *arrival; /* forward: the weight of each step in these derivatives; NULL: 1 each */
    const float *scale;  /* input is x * scale + shift of its channel, one after the other in */
    const float *shift;  /* memory; NULL: it is x */
    const float *centre; /* backward: the centres of the channels, see grad_norm */
    const void *grad;    /* backward: dL/dspikes, steps grad_step apart */
    void *grad_x;        /* backward: dL/dx, steps `size` apart, or (static_x) one step: the sum
                            over the steps divided by T; NULL: not wanted */
    double *grad_neuron; /* backward: dL/dleak and dL/dthreshold; NULL: not wanted */
    double *grad_norm;   /* backward, where there is a norm, and grad_x is dL/d(input): for each channel
                            sums of dL/d(input), then those of its products with x - centre (of each
                            step, where norm_step is not 0); NULL: not wanted */
    native_means means;
    int64_t size, steps, x_step, grad_step; /* in elements */
    int64_t channels, norm_step; /* norm_step: floats from the scales of a step to the next, or 0 */
    float leak, threshold;
    float surrogate_scale, surrogate_width; /* gamma or alpha; w */
    float floor; /* after each step a lower u is raised to -floor * threshold; infinity: never */
    int32_t bf16;             /* x, spikes and their gradients are bfloat16, else float32 */
    int32_t static_x;         /* the input is the same at every step, x_step 0 */
    int32_t reset;
    int32_t half_initial;     /* u starts at threshold / 2, else at 0 */
    int32_t threshold_height; /* spikes have the height of the threshold, else 1 */
    int32_t surrogate;
} lif_call;

/* Runs forward if `spikes` is given, else backward. Returns 0, or -1 if memory is short. */
int leanspike_lif(const lif_call *call);

#endif
