/* The leaves of the engine for the instruction sets of this processor. */
#include "kernels.h"

int32_t ls_best_instructions(void) { return LS_PLAIN; }

const ls_kernels *ls_kernels_of(int32_t instructions) {
    return instructions == LS_PLAIN ? ls_plain_kernels() : NULL;
}
