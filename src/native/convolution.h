/* The interface of event-driven convolutions, in which inputs of 0 cost no arithmetic.
 *
 * All arguments are pointers and sizes. The caller owns all memory. The axes of images are
 * [images, height, width, channels] (channels_last).
 */
#ifndef LEANSPIKE_CONVOLUTION_H
#define LEANSPIKE_CONVOLUTION_H

#include "native.h"

typedef struct {
    int64_t input, output, kernel, stride, padding;
} convolution_axis;

typedef struct {
    const void *x;       /* input */
    const float *weight; /* forward: [outputs, channels, kernel height and width], in any order */
    const float *bias;   /* forward: a number for each output channel; NULL: none */
    void *y;             /* forward: the output */
    const float *packed; /* forward: weights and bias from leanspike_convolution_pack; NULL: laid out here */
    const void *grad;    /* backward: dL/dy */
    float *grad_weight;  /* backward: dL/dweight, in any order, without gaps */
    int64_t images, channels, outputs;
    convolution_axis rows, columns; /* backward: the stride must be 1 */
    int64_t strides[4];             /* the strides of weight or grad_weight, in elements */
    native_means means;
    int32_t bf16; /* x, y and grad are bfloat16, else float32; sums are float32 */
} convolution_call;

/* Runs forward if `weight` is given, else backward. Returns 0, or -1 if memory is short. */
int leanspike_convolution(const convolution_call *call);

/* leanspike_convolution_pack lays out weights and bias for events, once for any number of calls, into whole
 * lines of the cache. leanspike_convolution_room returns the floats that this takes. Returns 0, or -1
 * if memory is short. */
int64_t leanspike_convolution_room(const convolution_call *call);
int leanspike_convolution_pack(const convolution_call *call, float *packed);

/* Returns the share of elements that are not 0, from a sample of the `size` elements, or from all if they are
 * few. The sample is one run of neighbours from each stretch, the same at each call. */
double leanspike_density(const void *x, int64_t size, int32_t bf16);

#endif
