/* The interface of dense 3x3 convolutions with a stride of 1 by Winograd's minimal filtering.
 *
 * A tile of 4 x 4 outputs and the 6 x 6 inputs that it depends on are transformed into 36 numbers each, which
 * meet in 36 products instead of 144: F(4 x 4, 3 x 3) of Lavin and Gray, arXiv 1509.09308. The gradient of
 * the weights is the same identity turned around.
 */
#ifndef LEANSPIKE_WINOGRAD_H
#define LEANSPIKE_WINOGRAD_H

#include "convolution.h"

enum { WINOGRAD_CHANNELS = 8 }; /* numbers of channels and of outputs must be multiples of it */

/* Runs forward if `weight` is given, else backward; the kernel must be 3 x 3, the stride 1, the type float32,
 * and `packed` is not used. Strides may be negative: for the gradient of the input, `weight` points to the last
 * tap, whose channels and outputs change places. Returns 0, or -1 if memory is short. No bit depends on the
 * threads. */
int leanspike_winograd(const convolution_call *call);

#endif
