// AVX512-BF16: gemm_bf16() of the AVX-512 table on processors that multiply pairs of bf16 faster than floats.
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "../internal.h"
#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,prfchw,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"))),     \
                             apply_to = function)

typedef __m512 v16;
typedef __m512i v16i;

ZN_INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
ZN_INLINE void v_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
ZN_INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
ZN_INLINE v16i vi_load(const void *p) { return _mm512_loadu_si512(p); }
ZN_INLINE v16i vi_word(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
}
ZN_INLINE v16 dot_bf16(v16 sum, v16i left, v16i right) {
    return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
}
#define v_dot_bf16 dot_bf16

#define TILE_ROWS 6
#define TILE_PANELS 4
#include "../template/partial.h"
#include "../template/bf16_tiles.h"

// Zen 4 and 5 multiply pairs twice as fast as floats. Intel's cores take as long as for floats or twice as long (Emerald Rapids:
// two cycles, 84 GFLOP/s a core beside 179): there the pairs are multiplied as floats.
static bool multiplies_pairs_faster(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}

bool zn_gemm_bf16_avx512(int64_t m, int64_t n_count, int64_t words, const uint32_t *packed_a, const uint32_t *b,
                         int64_t b_panel_stride, float *c, int64_t c_row_stride, bool add) {
    // 0: not asked yet. Threads that ask at the same time find the same.
    static _Atomic int found;
    int here = found;
    if (here == 0) found = here = multiplies_pairs_faster() ? 2 : 1;
    if (here == 1) return false;
    gemm_bf16_tiles(m, n_count, words, packed_a, b, b_panel_stride, c, c_row_stride, add);
    return true;
}
#pragma clang attribute pop
#endif
