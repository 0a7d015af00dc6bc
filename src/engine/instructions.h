/* Instruction sets of x86-64: which this processor has, and names for code that is compiled for each. */
#ifndef LEANSPIKE_INSTRUCTIONS_H
#define LEANSPIKE_INSTRUCTIONS_H

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#include <cpuid.h>
#define TARGET_avx2 __attribute__((target("avx2,fma")))
#define TARGET_avx512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#endif
#define TARGET_plain

enum { INSTRUCTIONS_PLAIN, INSTRUCTIONS_AVX2, INSTRUCTIONS_AVX512 }; /* worst to best */
enum { BYTES_plain = 16, BYTES_avx2 = 32, BYTES_avx512 = 64 };

/* NAME(f): f for the instruction set SET; TARGET: the attribute that selects it; BYTES: of its vectors. */
#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(f) PASTE(f, SET)
#define TARGET PASTE(TARGET, SET)
#define BYTES PASTE(BYTES, SET)

/* The best that this processor and this build have. Asked of the processor itself: __builtin_cpu_supports
 * needs a compiler's own library, and answers no to everything where that of zig is linked. */
static inline int best_instructions(void) {
#ifdef HAVE_X86
    const unsigned avx = 0x06, avx512 = 0xe6;          /* of XCR0: the registers that the system saves */
    const unsigned osxsave = 1u << 27, fma = 1u << 12; /* of leaf 1 */
    const unsigned avx2 = 1u << 5, f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    unsigned a, b, c, d, saved;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave) || !(c & fma)) return INSTRUCTIONS_PLAIN;
    __asm__("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2)) return INSTRUCTIONS_PLAIN;
    if ((saved & avx512) == avx512 && (b & f_dq_bw_vl) == f_dq_bw_vl) return INSTRUCTIONS_AVX512;
    if ((saved & avx) == avx) return INSTRUCTIONS_AVX2;
#endif
    return INSTRUCTIONS_PLAIN;
}

#endif
