/* Event-driven convolutions: only the inputs that are not 0 are worked on. The interface.
 *
 * Everything is pointers and sizes; the caller owns all memory. Images lie in the order
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
    const float *bias;   /* forward: of each output channel; NULL: none */
    void *y;             /* forward: the output */
    const float *packed; /* forward: weights and bias as leanspike_convolution_pack laid them out;
                            NULL: that is done here */
    const void *grad;    /* backward: dL/dy */
    float *grad_weight;  /* backward: dL/dweight, likewise, with no gaps */
    int64_t images, channels, outputs;
    convolution_axis rows, columns; /* backward: of stride 1 */
    int64_t strides[4];             /* of weight or grad_weight, in elements */
    native_means means;
    int32_t bf16; /* x, y and grad are bfloat16, else float32; sums are float32 */
} convolution_call;

/* Forward if `weight` is given, else backward. Returns 0, or -1 where memory is short. */
int leanspike_convolution(const convolution_call *call);

/* Weights and bias laid out for events, for any number of calls of these weights: how many floats they
 * take, and the work itself, into whole lines of the cache. Returns 0, or -1 likewise. */
int64_t leanspike_convolution_room(const convolution_call *call);
int leanspike_convolution_pack(const convolution_call *call, float *packed);

/* The share of elements that are not 0 in a sample of `size` elements, of all of them where they are few:
 * one run of neighbours from each stretch, drawn the same at each call. */
double leanspike_density(const void *x, int64_t size, int32_t bf16);

#endif
