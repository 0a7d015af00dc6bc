/* The leaves of the engine by instruction set: which there are, and which this processor has. */
#ifndef LEANSPIKE_KERNELS_H
#define LEANSPIKE_KERNELS_H

#include "leanspike.h"

enum { LS_PLAIN, LS_AVX2, LS_AVX512 }; /* worst to best; numbered as in instructions.h */

/* The best that this build and this processor have. */
int32_t ls_best_instructions(void);

/* The leaves of an instruction set; NULL: this build or this processor has it not. */
const ls_kernels *ls_kernels_of(int32_t instructions);

#endif
