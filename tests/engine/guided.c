/* The same checks as fuzz.c, on files that libFuzzer changes by what code they reach (make guided).
 *
 * guided CORPUS [options of libFuzzer]: every file is sealed anew, so that its checksum hides nothing. */
#define main changed_at_random
#include "fuzz.c"
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
    content c = {exactly(count), count};
    memcpy(c.bytes, bytes, count);
    if (count > PREFIX) seal(&c);
    round_number++;
    alarm(PATIENCE_S);
    check(&c, NULL);
    free(c.bytes);
    return 0;
}
