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

// Between the two, subnormal operands and results count as zero.
ZN_INLINE uint64_t zn_flush_subnormals(void) {
#if defined(__x86_64__)
    uint32_t state;
    __asm__ volatile("stmxcsr %0" : "=m"(state) : : "memory");
    const uint32_t flushing = state | 0x8040;
    __asm__ volatile("ldmxcsr %0" : : "m"(flushing) : "memory");
    return state;
#elif defined(__aarch64__)
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state) : : "memory");
    __asm__ volatile("msr fpcr, %0" : : "r"(state | 1 << 24) : "memory");
    return state;
#else
    return 0;
#endif
}
ZN_INLINE void zn_restore_subnormals(uint64_t state) {
#if defined(__x86_64__)
    const uint32_t before = (uint32_t)state;
    __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory");
#endif
}

// Intel's cores differ from AMD's in what they lack; never in a result.
//   - What is fetched far ahead goes to the second-level cache: it would wait in one of 16 line buffers of the first.
//     Emerald Rapids reads 3 % faster without them, Int4 generation is 2 to 5 % faster.
//   - Words of activations are operands in memory where registers would do: instructions are dearer than loads.
extern bool zn_is_intel;

extern const zn_kernels zn_table_scalar;
#if defined(__x86_64__)
extern const zn_kernels zn_table_avx2;
extern const zn_kernels zn_table_avx512;
// gemm_bf16() where the processor multiplies pairs of bf16 faster than floats; false, with nothing done, where it does not.
bool zn_gemm_bf16_avx512(int64_t m, int64_t n_count, int64_t words, const uint32_t *packed_a, const uint32_t *b,
                         int64_t b_panel_stride, float *c, int64_t c_row_stride, bool add);
// attend() likewise.
bool zn_attend_avx512(const zn_attention *job, float *scratch);
// burn_pairs() likewise; 0.
double zn_burn_pairs_avx512(int64_t rounds, float *result);
#elif defined(__aarch64__)
extern const zn_kernels zn_table_neon;
#endif
