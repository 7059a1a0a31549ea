/* rounding_avx512.c - the loops of rounding.c with vectors of AVX-512. */
#if defined(__x86_64__)

#define VECTOR_BYTES 64
#define NAME(function) function##_avx512
#include "num/rounding_loops.h"

#else
typedef int mf_rounding_avx512_is_empty;
#endif
