/* rounding_avx2.c - the loops of rounding.c with vectors of AVX2. */
#if defined(__x86_64__)

#define VECTOR_BYTES 32
#define NAME(function) function##_avx2
#include "num/rounding_loops.h"

#else
typedef int mf_rounding_avx2_is_empty;
#endif
