/* The engine: see leanspike.h. */
#include "leanspike.h"

/* ---- Plain leaves ---- */

static int32_t list_plain(const uint64_t *bits, int32_t pixels, int32_t words, int32_t *first,
                          uint16_t *index) {
    int32_t found = first[0];
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t w = 0; w < words; w++)
            for (uint64_t rest = bits[(int64_t)p * words + w], c = 0; rest; rest >>= 1, c++) {
                index[found] = (uint16_t)((uint64_t)w * 64 + c);
                found += (int32_t)(rest & 1);
            }
        first[p + 1] = found;
    }
    return found;
}
static const ls_kernels plain = {list_plain, 0, 0, 0, 0, 0, 0};

const ls_kernels *ls_plain_kernels(void) { return &plain; }
