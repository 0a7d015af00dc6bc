/* The leaves of the engine by instruction set: those of this build, and those of this processor. */
#ifndef LEANSPIKE_KERNELS_H
#define LEANSPIKE_KERNELS_H

#include "leanspike.h"

enum { LS_PLAIN, LS_AVX2, LS_AVX512 }; /* worst to best; numbered as in instructions.h */

/* Returns the best instruction set of this build and this processor. */
int32_t ls_best_instructions(void);

/* Returns the leaves of an instruction set, or NULL if this build or this processor lacks it. */
const ls_kernels *ls_kernels_of(int32_t instructions);

#endif
