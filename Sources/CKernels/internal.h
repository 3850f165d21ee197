// What the kernel files share with each other and with nobody else.
#pragma once
#include <math.h>
#include <string.h>

#include "CKernels.h"

#define ZN_INLINE static inline __attribute__((always_inline))

// The fixed order in which 16 partial sums are added, on every instruction set.
ZN_INLINE float zn_lane_sum(const float lane[16]) {
    float s8[8], s4[4];
    for (int i = 0; i < 8; i++) s8[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++) s4[i] = s8[i] + s8[i + 4];
    return (s4[0] + s4[2]) + (s4[1] + s4[3]);
}

ZN_INLINE double zn_lane_sum_double(const double lane[16]) {
    double s8[8], s4[4];
    for (int i = 0; i < 8; i++) s8[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++) s4[i] = s8[i] + s8[i + 4];
    return (s4[0] + s4[2]) + (s4[1] + s4[3]);
}

extern const zn_kernels zn_table_scalar;
#if defined(__x86_64__)
extern const zn_kernels zn_table_avx2;
extern const zn_kernels zn_table_avx512;
#elif defined(__aarch64__)
extern const zn_kernels zn_table_neon;
#endif
