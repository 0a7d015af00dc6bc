/* Includes the file EACH once for each instruction set, as SET. */
#define SET plain
#include EACH
#undef SET

#ifdef HAVE_X86
#define SET avx2
#include EACH
#undef SET
#define SET avx512
#include EACH
#undef SET
#endif

#undef EACH
